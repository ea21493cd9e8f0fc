/** What can be done with a run: cancel it, or run it again; each asks first. */

import { call, newKey } from "./api.js";
import { announce, element } from "./elements.js";
import { sentence } from "./notices.js";
import { runPlace } from "./places.js";
import { may } from "./session.js";
import { isEnd } from "./statuses.js";

const NEEDED = "runs:write";

/** The button of what fits the run; `done(body)` gets the run that the API answers. */
export function commandButton(run, done) {
  const allowed = may(NEEDED);
  const asked = Boolean(run.cancel_requested_at) && !isEnd(run.status);
  const [name, open] = isEnd(run.status) ? ["Retry…", retry] : ["Cancel…", cancel];
  const reason = allowed ? "" : `Your token lacks ${NEEDED}`;
  return element(
    "span",
    { class: "command" },
    element(
      "button",
      {
        type: "button",
        class: { FAILED: "primary", COMPLETED: "", CANCELLED: "" }[run.status] ?? "danger",
        "data-key": "command",
        disabled: !allowed || asked,
        onclick: () => open(run, done),
      },
      asked ? "Being cancelled" : name,
    ),
    reason && element("span", { class: "aside" }, reason),
  );
}

function cancel(run, done) {
  const reason = element("input", { type: "text", maxlength: 500, autocomplete: "off" });
  ask({
    title: `Cancel run ${run.id}?`,
    told: "Its job is told to stop. What it has written already stays.",
    fields: [element("label", {}, element("span", {}, "Reason (optional)"), reason)],
    yes: "Cancel the run",
    no: "Let it run",
    isDangerous: true,
    async act() {
      const body = reason.value.trim() ? { reason: reason.value.trim() } : {};
      const answer = await call("POST", `pipeline-run/${run.id}/cancel`, { body });
      announce(`Run ${run.id} is being cancelled`);
      done(answer.body);
    },
  });
}

function retry(run) {
  const key = newKey();
  ask({
    title: `Run ${run.id} once more?`,
    told: "A new run is made, with the same input, output and parameters.",
    fields: [],
    yes: "Run it again",
    no: "Leave it",
    isDangerous: false,
    async act() {
      location.hash = runPlace(await retried(run, key));
    },
  });
}

/** The new run's id, also if its submission failed: it is kept, and tells why. */
async function retried(run, key) {
  try {
    const headers = { "Idempotency-Key": key };
    const answer = await call("POST", `pipeline-run/${run.id}/retry`, { headers });
    return answer.body.id;
  } catch (problem) {
    if (problem.told?.pipeline_run_id) {
      return problem.told.pipeline_run_id;
    }
    throw problem;
  }
}

/** Asks in a dialog; a problem is told in it, so that one can try again. */
function ask({ title, told, fields, yes, no, isDangerous, act }) {
  const trouble = element("p", { class: "complaint", role: "alert" });
  const kind = isDangerous ? "danger" : "primary";
  const sure = element("button", { type: "submit", class: kind }, yes);
  const back = element("button", { type: "button", onclick: () => dialog.close() }, no);
  const onsubmit = async (event) => {
    event.preventDefault();
    sure.disabled = true;
    trouble.textContent = "";
    try {
      await act();
      dialog.close();
    } catch (problem) {
      trouble.textContent = sentence(problem);
    } finally {
      sure.disabled = false;
    }
  };
  const form = element(
    "form",
    { onsubmit },
    element("h2", { id: "dialog-title" }, title),
    element("p", {}, told),
    fields,
    trouble,
    element("div", { class: "choices" }, back, sure),
  );
  const dialog = element("dialog", { "aria-labelledby": "dialog-title" }, form);
  dialog.addEventListener("close", () => dialog.remove());
  // In the page, so that it goes when the page does.
  document.getElementById("content").append(dialog);
  dialog.showModal();
}
