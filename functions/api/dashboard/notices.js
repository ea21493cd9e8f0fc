/** What goes wrong, told at the top of the page until it is over. */

import { element, refill } from "./elements.js";
import { moment } from "./format.js";

/** A place for notices: `{node, tell}`. */
export function noticeBoard() {
  const troubles = new Map();
  const node = element("div", { class: "notices", role: "status" });

  /**
   * Tells of a failed reading; without a problem, that it works again.
   *
   * `seconds` until the next try, null: it was given up; `again` tries now.
   */
  function tell(what, problem, seconds, again) {
    if (problem) {
      troubles.set(what, { problem, seconds, again });
    } else {
      troubles.delete(what);
    }
    const [first] = troubles.values();
    refill(node, first && notice(first));
  }

  return { node, tell };
}

function notice({ problem, seconds, again }) {
  const next = seconds === null ? "" : ` Next try at ${nextTry(seconds)}.`;
  return element(
    "div",
    { class: "notice" },
    element("p", {}, `${sentence(problem)}${next}`),
    again && element("button", { type: "button", "data-key": "again", onclick: again }, "Try now"),
  );
}

function nextTry(seconds) {
  const at = Date.now() + seconds * 1000;
  return moment(at, at);
}

/** A problem in a sentence, with what to do where one can do something. */
export function sentence(problem) {
  if (problem.status === 403) {
    const scope = problem.missingScope || "a scope that this needs";
    return `Your token lacks ${scope}: sign in with one that has it.`;
  }
  const id = problem.told?.request_id;
  const found = problem.status >= 500 && id ? ` (request ${id})` : "";
  return `${problem.message.replace(/\.$/, "")}${found}.`;
}
