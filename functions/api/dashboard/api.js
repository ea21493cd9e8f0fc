/** The calls to the API, and its problems (RFC 9457). */

import { token } from "./session.js";

/** The page is a sibling of the API's own paths, whatever stands before them. */
const ROOT = new URL(".", location.href.split("#")[0]);
const PASSING = new Set([0, 408, 429, 500, 502, 503, 504]);

/** Told to the document when the API takes the token no more; `detail` is the problem. */
export const TOKEN_REFUSED = "token-refused";

/** Why a call has no other answer. */
export class ApiProblem extends Error {
  /**
   * `status` 0: there was no answer at all. `retryAfter` is in seconds; `told`: the whole problem.
   */
  constructor(status, told, retryAfter = 0, scope = "") {
    super(told.detail || told.title || `The API answered ${status}`);
    this.status = status;
    this.told = told;
    this.retryAfter = retryAfter;
    this.missingScope = scope;
  }

  /** Whether the same call may work a little later. */
  get isPassing() {
    return PASSING.has(this.status);
  }
}

/**
 * Calls the API.
 *
 * `query`: what is empty is left out. `known`: the ETag of what is there already. The answer is
 * `{status, tag, body}`; its body is null for 304. Throws an `ApiProblem`, or the signal's reason.
 */
export async function call(method, path, { query = {}, body, headers = {}, known, signal } = {}) {
  const address = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== null && value !== undefined) {
      address.searchParams.set(name, value);
    }
  }
  const sent = { Authorization: `Bearer ${token()}`, ...headers };
  if (known) {
    sent["If-None-Match"] = known;
  }
  if (body !== undefined) {
    sent["Content-Type"] = "application/json";
  }
  const text = body === undefined ? undefined : JSON.stringify(body);
  // The ETags are compared here: the browser's own cache would hide a 304.
  const options = { method, headers: sent, body: text, signal, cache: "no-store" };
  const answer = await fetched(address, options);
  if (answer.ok || answer.status === 304) {
    const told = answer.status === 304 ? null : await whole(answer, signal);
    return { status: answer.status, tag: answer.headers.get("ETag"), body: told };
  }
  throw await problemOf(answer);
}

/** Reads something. */
export function read(path, options) {
  return call("GET", path, options);
}

function fetched(address, options) {
  return unlessLost(fetch(address, options), options.signal);
}

/** An answer's body, which may be cut off, or be somebody else's page. */
function whole(answer, signal) {
  return unlessLost(answer.json(), signal);
}

async function unlessLost(awaited, signal) {
  try {
    return await awaited;
  } catch (error) {
    if (signal?.aborted) {
      throw error;
    }
    throw new ApiProblem(0, { detail: "The API can't be reached" });
  }
}

async function problemOf(answer) {
  const told = await answer.json().catch(() => ({}));
  const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  const demanded = answer.headers.get("WWW-Authenticate") ?? "";
  const scope = /scope="([^"]*)"/.exec(demanded)?.[1];
  const problem = new ApiProblem(answer.status, told, retryAfter, scope);
  if (answer.status === 401) {
    document.dispatchEvent(new CustomEvent(TOKEN_REFUSED, { detail: problem }));
  }
  return problem;
}

/** A key of one's own for a call that must not be done twice (`Idempotency-Key`). */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `dashboard-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
