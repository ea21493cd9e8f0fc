/** The list of runs: a table, or cards where there is no room for one. */

import { lasting, when } from "./clock.js";
import { element, refill } from "./elements.js";
import { duration } from "./format.js";
import { runPlace, runsPlace } from "./places.js";
import { isEnd, label } from "./statuses.js";

const COLUMNS = ["Run", "Status", "Pipeline", "Created", "Duration", "Tags", "What is known"];
const SKELETON_ROWS = 6;
/** So many failed checks in a row are worth a word. */
const FAILURES_WORTH_TELLING = 1;

/** `{node, show, wait}`. */
export function runsTable(pipelines) {
  const body = element("tbody", { role: "rowgroup" });
  const heads = COLUMNS.map((name) =>
    element("th", { role: "columnheader", scope: "col" }, name),
  );
  // Roles are spelled out: cards are no table to a browser, but to who listens they still are.
  const node = element(
    "table",
    { class: "runs", role: "table", "aria-label": "Runs, newest first" },
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, heads)),
    body,
  );
  let rows = new Map();

  return {
    node,
    /** Shows these runs; a row stays what it is while its run does. */
    show(runs) {
      const next = new Map();
      for (const run of runs) {
        const name = pipelines.named(run.pipeline_id);
        const told = JSON.stringify([run, name]);
        const before = rows.get(run.id);
        next.set(run.id, before?.told === told ? before : { told, node: row(run, name) });
      }
      rows = next;
      const nodes = [...next.values()].map((one) => one.node);
      const isSame = nodes.length === body.children.length && nodes.every(isAt);
      if (!isSame) {
        refill(body, nodes);
      }
      node.removeAttribute("aria-busy");
    },
    /** Shows that something is on its way. */
    wait() {
      rows = new Map();
      node.setAttribute("aria-busy", "true");
      refill(body, Array.from({ length: SKELETON_ROWS }, skeleton));
    },
  };

  function isAt(one, index) {
    return body.children[index] === one;
  }
}

function row(run, pipelineName) {
  const link = element(
    "a",
    { class: "run-link", href: runPlace(run.id), "data-key": `run ${run.id}` },
    element("span", { class: "unseen" }, "Run "),
    `${run.id}`,
  );
  const tags = Object.entries(run.tags).map(([name, value]) => tagLink(name, value));
  const cells = [
    element("th", { role: "rowheader", scope: "row", "data-name": "Run" }, link),
    cell("Status", label(run.status), run.cancel_requested_at && !isEnd(run.status) && toEnd()),
    cell("Pipeline", pipelineName),
    cell("Created", when(run.created_at)),
    cell("Duration", spent(run)),
    cell("Tags", tags),
    cell("What is known", known(run)),
  ];
  return element("tr", { role: "row", "data-status": run.status }, cells);
}

function cell(name, ...children) {
  return element("td", { role: "cell", "data-name": name }, children);
}

function skeleton() {
  const cells = COLUMNS.map(() => cell("", element("span", { class: "skeleton" })));
  return element("tr", { role: "row", "aria-hidden": "true" }, cells);
}

function toEnd() {
  return element("span", { class: "aside" }, "to be cancelled");
}

/** A link to all runs with this tag. */
export function tagLink(name, value) {
  const tag = `${name}:${value}`;
  const href = runsPlace({ tag });
  return element("a", { class: "tag", href, title: `Runs with ${tag}` }, tag);
}

/** From when a run was recorded to its end, or to now. */
export function spent(run) {
  return run.completed_at
    ? duration(Date.parse(run.completed_at) - Date.parse(run.created_at))
    : lasting(run.created_at);
}

/** How far a job is; null: it doesn't say. */
export function progressBar({ done, total } = {}) {
  if (!(total > 0)) {
    return null;
  }
  const text = `${done} of ${total}`;
  return element(
    "span",
    { class: "progress" },
    element("progress", { max: total, value: done, "aria-label": `Progress: ${text}` }),
    element("span", { "aria-hidden": "true" }, text),
  );
}

function known(run) {
  if (run.error) {
    return element("span", { class: "error-line", title: run.error.message }, run.error.message);
  }
  const { consecutive_failures: failures, progress } = run.observation;
  if (!isEnd(run.status) && failures >= FAILURES_WORTH_TELLING) {
    const checks = failures === 1 ? "The last check" : `The last ${failures} checks`;
    return element("span", { class: "doubt-line" }, `${checks} got no answer`);
  }
  return isEnd(run.status) ? null : progressBar(progress ?? undefined);
}
