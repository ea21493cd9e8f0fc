/** A run's history as a picture: what it was, and for how long. */

import { lasting, now, when } from "./clock.js";
import { element, svg } from "./elements.js";
import { duration } from "./format.js";
import { isEnd, label, picture, word } from "./statuses.js";

const HEIGHT = 64;
const BAR_TOP = 24;
const BAR = 14;
const LEAST_STAGE = 84;
const END = 76;

/** The picture and the list of a run's events, oldest first; `width` in pixels. */
export function historyOf(events, width) {
  const stages = events.map((event, index) => ({
    status: event.status,
    start: Date.parse(event.at),
    end: events[index + 1] ? Date.parse(events[index + 1].at) : now(),
  }));
  return [drawing(stages, width), list(events)];
}

function drawing(stages, width) {
  const last = stages.at(-1);
  const ended = last && isEnd(last.status) ? last : null;
  const lived = ended ? stages.slice(0, -1) : stages;
  const room = width - (ended ? END : 0);
  const widths = shares(lived, room);
  let x = 0;
  const parts = lived.map((stage, index) => {
    const part = stagePicture(stage, x, widths[index]);
    x += widths[index];
    return part;
  });
  const told = stages.map(described).join(", then ");
  return svg(
    "svg",
    { class: "history", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" },
    svg("title", {}, told),
    parts,
    ended && endPicture(ended.status, x),
  );
}

function described({ status, start, end }) {
  return isEnd(status) ? word(status) : `${word(status)} for ${duration(end - start)}`;
}

/** Widths by duration, none so small that its words have no room. */
function shares(stages, room) {
  const least = Math.min(LEAST_STAGE, room / Math.max(1, stages.length));
  const rest = room - least * stages.length;
  const total = stages.reduce((sum, { start, end }) => sum + end - start, 0) || 1;
  return stages.map(({ start, end }) => least + (rest * (end - start)) / total);
}

function stagePicture({ status, start, end }, x, width) {
  const middle = BAR_TOP + BAR + 18;
  return svg(
    "g",
    { "data-status": status },
    svg("text", { class: "stage-name", x, y: 14 }, word(status)),
    svg("text", { class: "stage-length", x, y: middle }, duration(end - start)),
    svg("rect", { x, y: BAR_TOP, width: Math.max(2, width - 3), height: BAR, rx: 4 }),
  );
}

function endPicture(status, x) {
  const mark = picture(status);
  for (const [name, value] of Object.entries({ x: x + 2, y: BAR_TOP - 2, width: 18, height: 18 })) {
    mark.setAttribute(name, value);
  }
  return svg(
    "g",
    { "data-status": status, class: "end" },
    svg("text", { class: "stage-name", x, y: 14 }, word(status)),
    mark,
  );
}

function list(events) {
  const items = events.map((event, index) => {
    const next = events[index + 1];
    const length = next
      ? duration(Date.parse(next.at) - Date.parse(event.at))
      : !isEnd(event.status) && lasting(event.at);
    return element(
      "li",
      {},
      label(event.status),
      when(event.at),
      length && element("span", { class: "aside" }, "for ", length),
    );
  });
  return element("ol", { class: "events", "aria-label": "Events, oldest first" }, items);
}
