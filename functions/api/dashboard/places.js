/** Where in the dashboard one is: the address's fragment, so that a view can be sent to others. */

const WITHIN_HOURS = { "1h": 1, "24h": 24, "7d": 7 * 24 };
const FILTERS = [
  "status",
  "pipeline_id",
  "tag",
  "within",
  "created_after",
  "created_before",
  "workbench_job_id",
];

/** `{runId}` for a run's page, else `{filters}` for the list of runs. */
export function place(fragment) {
  const [path, search = ""] = fragment.replace(/^#/, "").split("?");
  const run = /^\/runs\/([1-9][0-9]{0,18})$/.exec(path);
  if (run) {
    return { runId: run[1] };
  }
  const told = new URLSearchParams(search);
  const filters = {};
  for (const name of FILTERS) {
    if (told.get(name)) {
      filters[name] = told.get(name);
    }
  }
  return { filters };
}

/** The fragment of a run's page. */
export function runPlace(runId) {
  return `#/runs/${runId}`;
}

/** The fragment of the list with these filters. */
export function runsPlace(filters = {}) {
  const told = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
  return told.size ? `#/runs?${told}` : "#/runs";
}

/** What the API is to be asked for; `now` in milliseconds. */
export function asQuery(filters, now) {
  const { within, ...query } = filters;
  if (within in WITHIN_HOURS) {
    const hours = WITHIN_HOURS[within];
    query.created_after = new Date(now - hours * 3_600_000).toISOString();
  }
  return query;
}
