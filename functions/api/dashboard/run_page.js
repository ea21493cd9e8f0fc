/** One run: why it failed, how it is, what became of it. */

import { read } from "./api.js";
import { since, when } from "./clock.js";
import { commandButton } from "./commands.js";
import { announce, element, outwardLink, refill } from "./elements.js";
import { duration } from "./format.js";
import { historyOf } from "./history.js";
import { keepReading } from "./live.js";
import { sentence } from "./notices.js";
import { runPlace, runsPlace } from "./places.js";
import { storedObjects } from "./results.js";
import { progressBar, spent, tagLink } from "./runs_table.js";
import { isEnd, label, word } from "./statuses.js";

const LONGEST_WAIT_SECONDS = 20;
/** Between two long polls, and when the API has no room for one that waits. */
const PAUSE_SECONDS = 0.2;
const UNWAITED_PAUSE_SECONDS = 3;
const WHOSE_TURN = {
  USER: "The request or its data is at fault: correct it and submit a new run.",
  UPSTREAM: "The Workbench reported this; its logs may tell more.",
  PLATFORM: "The service or its workflow engine failed; a retry may succeed.",
  TIMEOUT: "It took longer than it may; give it more time or less to do.",
  LOST: "What became of its job isn't known: look into the Workbench before a retry.",
};

/** The page: `{node, title, change, tellInfo, leave}`. `shared`: what all pages work with. */
export function runPage({ pipelines, notices, info, backPlace }, { runId }) {
  const head = element("div", { class: "run-head" });
  const news = element("div", { class: "run-news" });
  const history = element("div", { class: "history-room" });
  const facts = element("dl", { class: "facts" });
  const more = element("div", { class: "run-more" });
  const outputs = storedObjects(runId, "outputs", {
    title: "Outputs",
    nothing: "Nothing lies below the output prefix.",
  });
  const report = storedObjects(runId, "report", {
    title: "Report",
    nothing: "Nothing lies below the report prefix.",
  });
  const known = element("div", { class: "columns" }, panel("Details", facts), more);
  const written = element("div", { class: "columns" }, outputs.node, report.node);
  const content = element("div", { hidden: true }, news, panel("History", history), known, written);
  const node = element(
    "main",
    { id: "content", tabindex: -1, "aria-busy": "true" },
    element("a", { class: "back", href: backPlace() }, "All runs"),
    head,
    content,
  );
  let run = null;
  let events = [];
  let tag = null;

  const reading = keepReading(look, (problem, seconds) => {
    const isGone = problem?.status === 404;
    notices.tell("run", isGone ? null : problem, seconds, () => reading.again());
    if (problem && seconds === null && !run) {
      const title = isGone ? `There is no run ${runId}` : "The run can't be shown";
      const gone = "Its number is wrong, it is another tenant's, or it ended long ago.";
      refill(head, element("h1", {}, title));
      refill(news, element("p", {}, isGone ? gone : sentence(problem)));
      refill(content, news);
      content.hidden = false;
    }
  });

  async function look(signal) {
    const begun = performance.now();
    const path = `pipeline-run/${runId}`;
    const query = run ? { wait: LONGEST_WAIT_SECONDS, since_version: run.version } : {};
    const answer = await read(path, { query, known: run ? tag : undefined, signal });
    if (answer.body) {
      await take(answer.body, signal);
      ({ tag } = answer);
    }
    if (isEnd(run.status)) {
      return null;
    }
    const isOld = !answer.body || performance.now() - begun < PAUSE_SECONDS * 1000;
    return isOld ? UNWAITED_PAUSE_SECONDS : PAUSE_SECONDS;
  }

  async function take(told, signal) {
    const before = run;
    if (before && before.version > told.version) {
      return;
    }
    if (before?.version !== told.version) {
      const { body } = await read(`pipeline-run/${runId}/events`, { signal });
      events = body.items;
    }
    await pipelines.know([told.pipeline_id]).catch(() => {});
    run = told;
    show();
    if (before && before.status !== run.status) {
      announce(`Run ${run.id}: ${word(run.status)}`);
    }
    if (before?.status !== run.status && isEnd(run.status)) {
      results();
    }
  }

  function results() {
    if (run.status === "COMPLETED") {
      known.before(written);
    }
    if (run.links.outputs) {
      outputs.look();
    }
    if (run.links.report) {
      report.look();
    }
  }

  function show() {
    node.removeAttribute("aria-busy");
    content.hidden = false;
    document.title = `Run ${run.id} ${word(run.status).toLowerCase()} · Pipeline runs`;
    outputs.node.hidden = !run.links.outputs;
    report.node.hidden = !run.links.report;
    refill(
      head,
      element("h1", {}, `Run ${run.id}`),
      label(run.status),
      pipelineLink(run.pipeline_id),
      commandButton(run, taken),
    );
    refill(news, failure(run), observed(run, info()), cancelling(run));
    draw();
    refill(facts, details(run));
    refill(more, tags(run), json("Parameters", run.parameters), json("Output", run.output));
  }

  function pipelineLink(id) {
    const href = runsPlace({ pipeline_id: String(id) });
    const title = "Runs of this pipeline";
    return element("a", { href, title, "data-key": "pipeline" }, pipelines.named(id));
  }

  /** What a command answered; if there is more to know of it, the next reading has it. */
  function taken(told) {
    take(told).catch(() => {
      tag = null;
      reading.again();
    });
  }

  function draw() {
    if (events.length && history.clientWidth) {
      refill(history, historyOf(events, history.clientWidth));
    }
  }

  const watching = new ResizeObserver(draw);
  watching.observe(history);
  refill(head, element("h1", {}, `Run ${runId}`), element("span", { class: "skeleton" }));
  return {
    node,
    title: () => (run ? `Run ${run.id} ${word(run.status).toLowerCase()}` : `Run ${runId}`),
    /** Another run has a page of its own. */
    change: null,
    tellInfo() {},
    /** Reads no more. */
    leave() {
      watching.disconnect();
      reading.stop();
      notices.tell("run", null);
    },
  };
}

function panel(title, ...children) {
  return element("section", { class: "panel" }, element("h2", {}, title), children);
}

function failure({ error, retry_of: retryOf }) {
  return (
    error &&
    element(
      "section",
      { class: "failure", "aria-label": "Why it failed" },
      element("h2", {}, "Why it failed"),
      element("p", { class: "failure-message" }, error.message),
      element("p", {}, WHOSE_TURN[error.category] ?? ""),
      element("p", { class: "aside" }, `${error.category} · ${error.code}`),
      retryOf && element("p", {}, "It was a retry of ", runLink(retryOf), "."),
    )
  );
}

function observed(run, info) {
  if (isEnd(run.status)) {
    return null;
  }
  const seen = run.observation;
  const interval = info?.poller.poll_interval_seconds;
  const next = seen.next_check_at
    ? ["Next check at ", when(seen.next_check_at), "."]
    : [interval ? `A check follows every ${interval} s.` : ""];
  const last = seen.last_checked_at
    ? ["Last checked ", since(seen.last_checked_at), ". "]
    : ["Not checked yet. "];
  const told = seen.upstream_status && ` The Workbench says ${seen.upstream_status}.`;
  const doubt = seen.consecutive_failures > 0 && [
    element("strong", {}, `${seen.consecutive_failures} checks in a row got no answer. `),
    seen.last_error,
  ];
  return element(
    "section",
    { class: "observed", "aria-label": "How it is now" },
    progressBar(seen.progress ?? undefined),
    element("p", {}, last, next, told),
    doubt && element("p", { class: "doubt" }, doubt),
  );
}

function cancelling({ cancel_requested_at: at, cancel_cause: cause, cancel_reason: reason }) {
  if (!at) {
    return null;
  }
  const why = cause === "TIMEOUT" ? "it ran longer than it may" : reason;
  const told = ["Its end was asked for at ", when(at), why ? `: ${why}` : "", "."];
  return element("p", { class: "end-asked" }, told);
}

function details(run) {
  const rows = [
    ["Created", when(run.created_at)],
    ["Started", run.started_at && when(run.started_at)],
    ["Ended", run.completed_at && when(run.completed_at)],
    ["Took", spent(run)],
    ["Input", code(run.user_storage_input_path_prefix)],
    ["Output", code(run.user_storage_output_path_prefix)],
    ["Report", run.user_storage_report_path_prefix && code(run.user_storage_report_path_prefix)],
    ["Retry of", run.retry_of && runLink(run.retry_of)],
    ["Mode", run.mode],
    ["May take", duration(run.timeout_seconds * 1000)],
    ["Workbench job", run.workbench_job_id && code(run.workbench_job_id)],
    ["Workflow", run.conductor_workflow_id && code(run.conductor_workflow_id)],
    ["Request", run.request_id && code(run.request_id)],
    ["Logs", run.observation.logs_url && outwardLink(run.observation.logs_url, "Job's logs")],
  ];
  return rows
    .filter(([, value]) => value)
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
}

function runLink(id) {
  return element("a", { href: runPlace(id), "data-key": `run ${id}` }, `run ${id}`);
}

function code(text) {
  return element("code", {}, text);
}

function tags({ tags: told }) {
  const links = Object.entries(told).map(([name, value]) => tagLink(name, value));
  return links.length > 0 && panel("Tags", element("p", { class: "tags" }, links));
}

function json(title, value) {
  const isThere = value !== null && Object.keys(Object(value)).length > 0;
  // It scrolls, so a keyboard has to reach it.
  const attributes = { tabindex: 0, role: "region", "aria-label": title };
  return isThere && panel(title, element("pre", attributes, JSON.stringify(value, null, 2)));
}
