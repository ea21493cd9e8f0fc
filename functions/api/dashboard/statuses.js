/** The six statuses: each has a word, a picture and a colour; none is told by colour alone. */

import { element, svg } from "./elements.js";

/** In the order in which a run goes through them. */
export const STATUSES = ["CREATED", "SUBMITTED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"];
const ENDS = new Set(["COMPLETED", "FAILED", "CANCELLED"]);
const WORDS = {
  CREATED: "Created",
  SUBMITTED: "Submitted",
  RUNNING: "Running",
  COMPLETED: "Completed",
  FAILED: "Failed",
  CANCELLED: "Cancelled",
};
/** Lines in a square of 16. */
const PICTURES = {
  CREATED: "M8 2.5v11M2.5 8h11",
  SUBMITTED: "M8 13.5v-11M3.5 7 8 2.5 12.5 7",
  RUNNING: "M5 3.2v9.6L12.6 8z",
  COMPLETED: "M3 8.6 6.4 12 13 4.6",
  FAILED: "M4 4l8 8M12 4l-8 8",
  CANCELLED: "M3 8h10",
};

/** A status as a word for people. */
export function word(status) {
  return WORDS[status];
}

/** Whether a run of this status changes no more. */
export function isEnd(status) {
  return ENDS.has(status);
}

/** A status's picture. */
export function picture(status) {
  return svg(
    "svg",
    { class: "picture", viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("path", { d: PICTURES[status] }),
  );
}

/** A status as a small label. */
export function label(status) {
  return element(
    "span",
    { class: "status", "data-status": status },
    picture(status),
    element("span", {}, WORDS[status]),
  );
}
