/** What the list of runs is narrowed by. */

import { element, refill } from "./elements.js";
import { STATUSES, word } from "./statuses.js";

const SPANS = [
  ["", "Any time"],
  ["1h", "In the last hour"],
  ["24h", "In the last 24 hours"],
  ["7d", "In the last 7 days"],
  ["between", "Between…"],
];
const TAG = /^[A-Za-z0-9._/-]{1,64}:/;

/** `{node, show, offer}`; `change(filters)` is called with those that hold from now on. */
export function filterForm(pipelines, change) {
  const status = choice("Status", [["", "Any"], ...STATUSES.map((one) => [one, word(one)])]);
  const pipeline = choice("Pipeline", [["", "Any"]]);
  const span = choice("Created", SPANS);
  const after = field("From", { type: "datetime-local" });
  const before = field("To", { type: "datetime-local" });
  const tag = field("Tag", { placeholder: "team:ocean", autocomplete: "off", spellcheck: "false" });
  const job = field("Workbench job", { autocomplete: "off", spellcheck: "false" });
  const between = element("div", { class: "between", hidden: true }, after.node, before.node);
  const clear = element("button", { type: "button", onclick: () => change({}) }, "Clear filters");

  function changed() {
    between.hidden = span.input.value !== "between";
    const wanted = tag.input.value.trim();
    const isTag = !wanted || TAG.test(wanted);
    tag.complain(isTag ? "" : "Write it as name:value.");
    if (isTag) {
      change(chosen(wanted));
    }
  }

  function chosen(tagWanted) {
    const isBetween = span.input.value === "between";
    return {
      status: status.input.value,
      pipeline_id: pipeline.input.value,
      tag: tagWanted,
      within: isBetween ? "" : span.input.value,
      created_after: isBetween ? asMoment(after.input.value) : "",
      created_before: isBetween ? asMoment(before.input.value) : "",
      workbench_job_id: job.input.value.trim(),
    };
  }

  const onsubmit = (event) => {
    event.preventDefault();
    changed();
  };
  const parts = [status, pipeline, span].map((one) => one.node);
  const form = element(
    "form",
    { class: "filters", "aria-label": "Filters", onsubmit, onchange: changed },
    ...parts,
    between,
    tag.node,
    job.node,
    clear,
  );
  // Open on a wide screen, where its summary isn't shown; on a small one it is in the way.
  const isWide = matchMedia("(min-width: 44rem)");
  const folded = element("details", { class: "folded", open: isWide.matches });
  folded.append(element("summary", {}, "Filters"), form);
  isWide.addEventListener("change", () => {
    folded.open = isWide.matches;
  });

  let offered = "";

  return {
    node: folded,
    /** Offers the pipelines that are known by now. */
    offer,
    /** Shows the filters that hold. */
    show(filters) {
      const isBetween = Boolean(filters.created_after || filters.created_before);
      offer(filters.pipeline_id);
      status.input.value = filters.status ?? "";
      pipeline.input.value = filters.pipeline_id ?? "";
      span.input.value = isBetween ? "between" : (filters.within ?? "");
      between.hidden = !isBetween && between.hidden;
      after.input.value = asInput(filters.created_after);
      before.input.value = asInput(filters.created_before);
      tag.input.value = filters.tag ?? "";
      job.input.value = filters.workbench_job_id ?? "";
      clear.hidden = Object.values(filters).every((value) => !value);
    },
  };

  function offer(wanted) {
    const options = [["", "Any"], ...known(wanted)];
    // Options that are the same stay: the list may be open.
    if (offered !== JSON.stringify(options)) {
      offered = JSON.stringify(options);
      fill(pipeline.input, options);
    }
  }

  function known(wanted) {
    const all = pipelines.all().map(([id, name]) => [String(id), name]);
    const isThere = !wanted || all.some(([id]) => id === wanted);
    return isThere ? all : [...all, [wanted, pipelines.named(Number(wanted))]];
  }
}

function choice(name, options) {
  const input = element("select", {});
  fill(input, options);
  return { node: element("label", {}, element("span", {}, name), input), input };
}

function fill(select, options) {
  const { value } = select;
  refill(
    select,
    options.map(([one, name]) => element("option", { value: one }, name)),
  );
  select.value = value;
}

function field(name, attributes) {
  const input = element("input", { type: "text", ...attributes });
  const complaint = element("span", { class: "complaint", role: "alert" });
  return {
    node: element("label", {}, element("span", {}, name), input, complaint),
    input,
    complain(text) {
      complaint.textContent = text;
      input.setAttribute("aria-invalid", text ? "true" : "false");
    },
  };
}

/** What an input for local times holds, as RFC 3339 has it. */
function asMoment(text) {
  return text ? new Date(text).toISOString() : "";
}

function asInput(at) {
  if (!at || Number.isNaN(Date.parse(at))) {
    return "";
  }
  const moment = new Date(at);
  const local = new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, "YYYY-MM-DDTHH:MM".length);
}
