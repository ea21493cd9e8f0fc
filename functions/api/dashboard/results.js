/** What a run has written: its outputs and its report, with links that work for a while. */

import { read } from "./api.js";
import { element, outwardLink, refill } from "./elements.js";
import { size } from "./format.js";
import { sentence } from "./notices.js";

const PAGE_SIZE = 100;

/**
 * A list of a run's objects: `{node, look}`; `look()` asks for them.
 *
 * `what`: `outputs` or `report`.
 */
export function storedObjects(runId, what, { title, nothing }) {
  const items = element("ul", { class: "objects" });
  const remark = element("p", { class: "aside" }, "Not looked for yet.");
  const button = element("button", { type: "button", onclick: () => look() }, "Look now");
  const node = element(
    "section",
    { class: "panel" },
    element("div", { class: "panel-head" }, element("h2", {}, title), button),
    items,
    remark,
  );

  async function look() {
    button.disabled = true;
    remark.textContent = "Looking…";
    try {
      const query = { page_size: PAGE_SIZE };
      const { body } = await read(`pipeline-run/${runId}/${what}`, { query });
      refill(items, body.items.map(item));
      remark.textContent = told(body);
    } catch (problem) {
      remark.textContent = sentence(problem);
    } finally {
      button.disabled = false;
    }
  }

  function told({ items: found, next_page_token: next }) {
    if (!found.length) {
      return nothing;
    }
    const more = next ? `These are the first ${found.length}; the API lists all. ` : "";
    return `${more}Links work for a quarter of an hour; look again for new ones.`;
  }

  return { node, look };
}

function item({ name, url, size_bytes: bytes }) {
  return element(
    "li",
    {},
    outwardLink(url, name),
    element("span", { class: "aside" }, size(bytes)),
  );
}
