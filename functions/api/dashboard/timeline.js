/** Runs as bars over time, from when they were recorded to their end or to now. */

import { now } from "./clock.js";
import { element, refill, svg } from "./elements.js";
import { duration, mark, moment } from "./format.js";
import { runPlace } from "./places.js";
import { word } from "./statuses.js";

const MOST_LANES = 24;
const WIDE_LANES = 10;
const WIDE_LANE = 22;
const NARROW_LANE = 11;
const GAP = 4;
const AXIS = 26;
const LEAST_BAR = 6;
const LABELLED_BAR = 34;
const LEAST_BETWEEN_MARKS = 90;
const MINUTE = 60_000;
const STEPS = [
  ...[1_000, 5_000, 15_000, 30_000],
  ...[1, 5, 15, 30, 60, 180, 360, 720].map((minutes) => minutes * MINUTE),
  ...[1, 2, 7, 30, 90, 365].map((days) => days * 1440 * MINUTE),
];

/** `{node, show}`. */
export function timeline(pipelines) {
  const picture = element("div", { class: "timeline-picture" });
  const details = element("p", { class: "timeline-details", "aria-hidden": "true" });
  const node = element(
    "section",
    { class: "panel timeline", "aria-label": "Timeline" },
    element("h2", {}, "Timeline"),
    picture,
    details,
  );
  let shown = [];
  let current = 0;

  function draw() {
    const width = picture.clientWidth;
    if (!width) {
      return;
    }
    node.hidden = !shown.length;
    const plan = planned(shown, width);
    const height = plan.lanes * plan.lane + AXIS;
    const bars = plan.bars.map((one, index) => bar(one, plan, index));
    const drawing = svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Runs" },
      marks(plan, height),
      bars,
    );
    refill(picture, drawing);
    hint(plan);
  }

  function bar({ run, x, width, lane }, plan, index) {
    const y = lane * plan.lane;
    const height = plan.lane - GAP;
    const text = described(run);
    return svg(
      "a",
      {
        href: runPlace(run.id),
        class: "bar",
        "data-status": run.status,
        "data-key": `bar ${run.id}`,
        "aria-label": text,
        // One stop for all bars; arrows go from one to the next.
        tabindex: index === Math.min(current, plan.bars.length - 1) ? 0 : -1,
        onpointerenter: () => tell(text),
        onpointerleave: () => hint(plan),
        onfocus: () => {
          current = index;
          tell(text);
        },
        onblur: () => hint(plan),
        onkeydown: (event) => goOn(event, index),
      },
      svg("rect", { x, y, width, height, rx: Math.min(4, height / 2) }),
      width >= LABELLED_BAR &&
        plan.lane === WIDE_LANE &&
        svg("text", { x: x + 7, y: y + height / 2, "dominant-baseline": "central" }, `${run.id}`),
    );
  }

  function goOn(event, index) {
    const bars = [...picture.querySelectorAll(".bar")];
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: bars.length - 1 };
    const next = bars[to[event.key]];
    if (next) {
      event.preventDefault();
      bars[index].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    }
  }

  function tell(text) {
    details.textContent = text;
  }

  function hint({ left }) {
    const more = left ? ` ${left} more overlap and are in the table alone.` : "";
    tell(`The runs listed below; point at a bar to see which it is.${more}`);
  }

  function described(run) {
    const end = run.completed_at ? Date.parse(run.completed_at) : now();
    const start = Date.parse(run.created_at);
    const name = pipelines.named(run.pipeline_id);
    const from = moment(start, now());
    const facts = [`Run ${run.id}`, word(run.status), name, `from ${from}`, duration(end - start)];
    return [...facts, run.error?.message].filter(Boolean).join(" · ");
  }

  new ResizeObserver(draw).observe(picture);
  return {
    node,
    /** Shows these runs. */
    show(runs) {
      shown = runs;
      node.hidden = !runs.length;
      draw();
    },
  };
}

/** Where each bar goes: in the first lane that is free at its left end, oldest first. */
function planned(runs, width) {
  const present = now();
  const spans = runs
    .map((run) => ({
      run,
      start: Date.parse(run.created_at),
      end: run.completed_at ? Date.parse(run.completed_at) : present,
    }))
    .reverse();
  const first = Math.min(...spans.map(({ start }) => start));
  const last = Math.max(first + 1_000, ...spans.map(({ end }) => end));
  const scale = (width - LEAST_BAR) / (last - first);
  const free = [];
  const bars = [];
  for (const { run, start, end } of spans) {
    const x = (start - first) * scale;
    const length = Math.max(LEAST_BAR, (end - start) * scale);
    let lane = free.findIndex((at) => at <= x);
    lane = lane < 0 ? free.length : lane;
    if (lane < MOST_LANES) {
      free[lane] = x + length + 2;
      bars.push({ run, x, width: length, lane });
    }
  }
  const lanes = free.length;
  const lane = lanes <= WIDE_LANES ? WIDE_LANE : NARROW_LANE;
  return { bars, lanes, lane, first, last, scale, width, left: runs.length - bars.length };
}

function marks({ first, last, scale, width }, height) {
  const apart = STEPS.find((step) => step * scale >= LEAST_BETWEEN_MARKS) ?? STEPS.at(-1);
  const offset = new Date(first).getTimezoneOffset() * MINUTE;
  const drawn = [];
  for (let at = Math.ceil((first - offset) / apart) * apart + offset; at <= last; at += apart) {
    const x = (at - first) * scale;
    const anchor = x < 24 ? "start" : x > width - 24 ? "end" : "middle";
    drawn.push(
      svg("line", { class: "mark", x1: x, x2: x, y1: 0, y2: height - AXIS + 6 }),
      svg("text", { class: "mark-name", x, y: height - 5, "text-anchor": anchor }, mark(at, apart)),
    );
  }
  return svg("g", { "aria-hidden": "true" }, drawn);
}
