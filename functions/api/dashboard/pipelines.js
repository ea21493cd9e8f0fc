/** The names of pipelines, read once and again when one is met that isn't known. */

import { read } from "./api.js";

const PAGE_SIZE = 200;
const MOST_PAGES = 10;

/** `{named, all, know}`. */
export function pipelineNames() {
  const names = new Map();
  const asked = new Set();

  async function readAll() {
    let token = "";
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const query = { page_size: PAGE_SIZE, page_token: token };
      const { body } = await read("pipeline", { query });
      body.items.forEach(({ id, name }) => names.set(id, name));
      token = body.next_page_token;
      if (!token) {
        return;
      }
    }
  }

  return {
    /** A pipeline's name, or its number while that is all that is known. */
    named(id) {
      return names.get(id) ?? `Pipeline ${id}`;
    },
    /** All of them, by id: `[[id, name], …]`. */
    all() {
      return [...names].sort(([, one], [, other]) => one.localeCompare(other));
    },
    /** Learns the names of these, if they aren't known; each is asked for once. */
    async know(ids) {
      if (ids.some((id) => !names.has(id) && !asked.has(id))) {
        await readAll();
        ids.forEach((id) => asked.add(id)); // Not before: what failed is asked again.
      }
    },
  };
}
