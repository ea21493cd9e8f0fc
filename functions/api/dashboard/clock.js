/** The service's time, by which ages are told, and times on the page that go on by themselves. */

import { element } from "./elements.js";
import { ago, duration, moment } from "./format.js";

const TICK_MILLISECONDS = 1000;
let ahead = 0;

/** What time it is for the service, in milliseconds; a viewer's clock may be wrong. */
export function now() {
  return Date.now() + ahead;
}

/** Learns the service's time from an answer of just now. */
export function setByService(at) {
  ahead = Date.parse(at) - Date.now();
}

/** A moment: `18:05:12`. */
export function when(at) {
  return time(at, moment(Date.parse(at), now()));
}

/** How long ago a moment is; it goes on. */
export function since(at) {
  return time(at, ago(now() - Date.parse(at)), "ago");
}

/** How long it has lasted since a moment; it goes on. */
export function lasting(at) {
  return time(at, duration(now() - Date.parse(at)), "lasting");
}

function time(at, text, tells) {
  const utc = new Date(at).toISOString().replace("T", " ").replace("Z", " UTC");
  return element("time", { datetime: at, title: utc, "data-tells": tells }, text);
}

/** Keeps the page's ages true for as long as it is open. */
export function start() {
  setInterval(() => {
    if (!document.hidden) {
      document.querySelectorAll("time[data-tells]").forEach(goOn);
    }
  }, TICK_MILLISECONDS);
}

function goOn(node) {
  const age = now() - Date.parse(node.dateTime);
  const text = node.dataset.tells === "ago" ? ago(age) : duration(age);
  if (node.textContent !== text) {
    node.textContent = text;
  }
}
