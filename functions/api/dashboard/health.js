/** Whether the service does its work, in words. */

import { now, since, when } from "./clock.js";
import { element, refill } from "./elements.js";
import { duration } from "./format.js";

/** Beyond an interval: a sweep may begin so late and be in time still. */
const SLACK_SECONDS = 30;
/** As long as the alarm on missing ticks waits. */
const STOPPED_AFTER_SECONDS = 180;

/** The line about poller and Workbench: `{node, show, doubt}`; `show` takes service info. */
export function healthLine() {
  const node = element(
    "section",
    { class: "health", "aria-label": "Health" },
    element("p", { class: "fact" }, "Asking how the service is…"),
  );
  return {
    node,
    show(info) {
      refill(node, poller(info.poller), news(info), workbench(info.workbench));
    },
    /** Takes back what was shown: it may be so no more. */
    doubt() {
      refill(node, fact("doubtful", "Health not known", "the API doesn't tell"));
    },
  };
}

function poller(info) {
  const { last_sweep_at: sweptAt, poll_interval_seconds: interval } = info;
  if (!sweptAt) {
    return fact("bad", "Poller stopped", "it has not swept yet");
  }
  const age = (now() - Date.parse(sweptAt)) / 1000;
  const [level, verdict] =
    age <= interval + SLACK_SECONDS
      ? ["good", "Poller healthy"]
      : age <= STOPPED_AFTER_SECONDS
        ? ["doubtful", "Poller late"]
        : ["bad", "Poller stopped"];
  const checked = info.runs_checked_within_a_minute;
  const pace = `, one every ${interval} s, ${checked} runs checked a minute`;
  return fact(level, verdict, "last sweep ", since(sweptAt), pace);
}

function news({ runs, poller: { poll_interval_seconds: interval } }) {
  const worst = runs.worst_staleness_seconds;
  if (worst === null) {
    return fact("good", "Checks in time", "no job is active");
  }
  const isInTime = worst <= 2 * interval + SLACK_SECONDS;
  const [level, verdict] = isInTime ? ["good", "Checks in time"] : ["doubtful", "Checks late"];
  return fact(level, verdict, `the oldest news of a job is ${duration(worst * 1000)} old`);
}

function workbench({ breaker, breaker_opened_at: openedAt }) {
  return breaker === "OPEN"
    ? fact("bad", "Breaker open", "the Workbench gives no valid answer since ", when(openedAt))
    : fact("good", "Breaker closed", "the Workbench is asked");
}

function fact(level, verdict, ...details) {
  return element(
    "p",
    { class: "fact", "data-level": level },
    element("strong", {}, verdict),
    element("span", {}, details),
  );
}
