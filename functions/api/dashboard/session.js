/** Who looks: a token that this tab keeps, and that is gone when the tab is closed. */

const KEPT_AS = "pipeline-runs-token";
const EVERYTHING = "admin";
/** Visible ASCII: nothing else goes into a header. */
const SENDABLE = /^[!-~]+$/;

/** The token; empty: nobody is signed in. */
export function token() {
  return sessionStorage.getItem(KEPT_AS) ?? "";
}

/** Keeps a token; gives whether it can be one at all. */
export function signIn(text) {
  const told = text.trim().replace(/^Bearer\s+/i, "");
  if (!SENDABLE.test(told)) {
    return false;
  }
  sessionStorage.setItem(KEPT_AS, told);
  return true;
}

/** Forgets it. */
export function signOut() {
  sessionStorage.removeItem(KEPT_AS);
}

/**
 * Takes a token out of the address's fragment (`#token=…`, with `&to=/runs/7` the page to open):
 * it is in no request and no server's log, and taken out of the address, though the browser may
 * keep the one it came by in its history. Gives whether
 * there was one.
 */
export function signInByFragment() {
  const told = new URLSearchParams(location.hash.replace(/^#/, ""));
  if (!told.get("token")) {
    return false;
  }
  history.replaceState(null, "", `#${told.get("to") ?? "/runs"}`);
  return signIn(told.get("token"));
}

/** What the token says of itself, for display: the API alone checks it. Null: it can't be read. */
export function claims() {
  try {
    const part = token().split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/** Whether the token seems to allow something; who can't tell lets the API decide. */
export function may(scope) {
  const told = claims();
  if (!told) {
    return true;
  }
  const named = [told.scope, told.scp].flat().filter((text) => typeof text === "string");
  const scopes = named.flatMap((text) => text.split(" "));
  return scopes.includes(scope) || scopes.includes(EVERYTHING);
}

/** When the token ended, in milliseconds; null: it hasn't, or doesn't say. */
export function endedAt() {
  const end = claims()?.exp;
  return typeof end === "number" && end * 1000 < Date.now() ? end * 1000 : null;
}
