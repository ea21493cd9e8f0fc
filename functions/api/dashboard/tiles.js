/** How many runs there are of each status; each tile shows those alone. */

import { element, refill } from "./elements.js";
import { count } from "./format.js";
import { picture, STATUSES, word } from "./statuses.js";

/** `{node, show}`; `choose(status)` is called with "" when a tile is let go. */
export function statusTiles(choose) {
  const node = element("section", { class: "tiles", "aria-label": "Runs by status" });

  function tile(status, chosen, runs) {
    const isEnd = status in (runs?.ended_within_24_hours ?? {});
    const number = (isEnd ? runs.ended_within_24_hours : runs?.active)?.[status];
    return element(
      "button",
      {
        type: "button",
        class: "tile",
        "data-key": `tile ${status}`,
        "data-status": status,
        "aria-pressed": status === chosen ? "true" : "false",
        onclick: () => choose(status === chosen ? "" : status),
      },
      element("span", { class: "tile-name" }, picture(status), word(status)),
      element("span", { class: "tile-number" }, number === undefined ? "–" : count(number)),
      element("span", { class: "tile-span" }, isEnd ? "in 24 hours" : "now"),
    );
  }

  return {
    node,
    /** Shows counts of service info (null: not known yet) and the status that is chosen. */
    show(runs, chosen) {
      refill(
        node,
        STATUSES.map((status) => tile(status, chosen, runs)),
      );
    },
  };
}
