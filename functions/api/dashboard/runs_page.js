/** The list of runs, with their counts and their timeline. */

import { read } from "./api.js";
import { now } from "./clock.js";
import { announce, element, refill } from "./elements.js";
import { filterForm } from "./filter_form.js";
import { keepReading } from "./live.js";
import { sentence } from "./notices.js";
import { asQuery, runsPlace } from "./places.js";
import { runsTable } from "./runs_table.js";
import { word } from "./statuses.js";
import { statusTiles } from "./tiles.js";
import { timeline } from "./timeline.js";

const PAGE_SIZE = 50;
/** A page of the API may be short though more follows: so many are read for one of ours. */
const MOST_READS = 5;
const EVERY_SECONDS = 4;

/** The page: `{node, title, change, tellInfo, leave}`. `shared`: what all pages work with. */
export function runsPage({ pipelines, notices, info }, { filters }) {
  const tiles = statusTiles((status) => go({ ...wanted, status }));
  const form = filterForm(pipelines, go);
  const bars = timeline(pipelines);
  const table = runsTable(pipelines);
  const nothing = element("div", { class: "nothing", hidden: true });
  const paging = element("nav", { class: "paging", "aria-label": "Pages of runs" });
  const node = element(
    "main",
    { id: "content", tabindex: -1 },
    element("h1", { class: "unseen" }, "Runs"),
    tiles.node,
    form.node,
    bars.node,
    element("section", { class: "panel list", "aria-label": "Runs" }, table.node, nothing, paging),
  );
  let wanted = filters;
  let counts = info()?.runs ?? null;
  let statuses = new Map();
  /** What leads to the page that is shown and to those before it: `{query, token}` each. */
  let trail = [];
  let reading = null;

  function go(next) {
    location.hash = runsPlace(next);
  }

  function begin() {
    reading?.stop();
    statuses = new Map();
    table.wait();
    nothing.hidden = true;
    refill(paging);
    bars.node.classList.add("waiting");
    reading = keepReading(look, (problem, seconds) => {
      notices.tell("runs", problem, seconds, () => reading.again());
      if (problem && seconds === null) {
        show([], "", problem);
      }
    });
  }

  async function look(signal) {
    const here = trail.at(-1) ?? { query: asQuery(wanted, now()), token: "" };
    const { runs, next } = await pageOfRuns(here, signal);
    await pipelines.know(runs.map((run) => run.pipeline_id)).catch(() => {});
    if (!signal.aborted) {
      show(runs, next && { query: here.query, token: next });
      tellChanges(runs);
    }
    // Only the newest page changes by itself.
    return trail.length ? null : EVERY_SECONDS;
  }

  function show(runs, next, problem = null) {
    bars.node.classList.remove("waiting");
    form.offer(wanted.pipeline_id);
    table.show(runs);
    bars.show(runs);
    table.node.hidden = !runs.length;
    nothing.hidden = Boolean(runs.length);
    if (!runs.length) {
      refill(nothing, emptiness(problem, next));
    }
    refill(paging, pageButtons(next));
  }

  function emptiness(problem, next) {
    if (problem) {
      return [element("h2", {}, "The runs can't be shown"), element("p", {}, sentence(problem))];
    }
    if (next) {
      return element("p", {}, "None so far; there is more to look through.");
    }
    if (Object.values(wanted).some(Boolean)) {
      return [
        element("h2", {}, "No run is like that"),
        element("p", {}, "Nothing fits the filters."),
        element("button", { type: "button", onclick: () => go({}) }, "Clear filters"),
      ];
    }
    return [
      element("h2", {}, "No runs yet"),
      element("p", {}, "They appear here as soon as one is submitted."),
      element("a", { class: "button", href: "docs" }, "How to submit one"),
    ];
  }

  function pageButtons(next) {
    const newer = () => turn(trail.slice(0, -1));
    const older = () => turn([...trail, next]);
    return [
      trail.length > 0 &&
        element("button", { type: "button", "data-key": "newer", onclick: newer }, "Newer"),
      (trail.length > 0 || next) &&
        element("span", {}, `Page ${trail.length + 1}${trail.length ? "" : ", live"}`),
      next && element("button", { type: "button", "data-key": "older", onclick: older }, "Older"),
    ];
  }

  function turn(to) {
    trail = to;
    begin();
    node.focus({ preventScroll: true });
    node.scrollIntoView();
  }

  function tellChanges(runs) {
    const changed = runs.filter(({ id, status }) => (statuses.get(id) ?? status) !== status);
    if (changed.length) {
      announce(changed.map(({ id, status }) => `Run ${id}: ${word(status)}`).join(". "));
    }
    statuses = new Map(runs.map(({ id, status }) => [id, status]));
  }

  tiles.show(counts, wanted.status);
  form.show(wanted);
  begin();
  return {
    node,
    title: () => "Runs",
    /** Goes to the list with other filters. */
    change(place) {
      wanted = place.filters;
      trail = [];
      tiles.show(counts, wanted.status);
      form.show(wanted);
      begin();
    },
    /** Hears how the service is. */
    tellInfo(told) {
      counts = told.runs;
      tiles.show(counts, wanted.status);
    },
    /** Reads no more. */
    leave() {
      reading.stop();
      notices.tell("runs", null);
    },
  };
}

/** A page of ours, of as many of the API's as it takes. */
async function pageOfRuns({ query, token }, signal) {
  const runs = [];
  let next = token;
  for (let reads = 0; reads < MOST_READS; reads += 1) {
    const size = PAGE_SIZE - runs.length;
    const asked = { ...query, page_size: size, page_token: next };
    const { body } = await read("pipeline-run", { query: asked, signal });
    runs.push(...body.items);
    next = body.next_page_token;
    if (!next || runs.length >= PAGE_SIZE) {
      break;
    }
  }
  return { runs, next };
}
