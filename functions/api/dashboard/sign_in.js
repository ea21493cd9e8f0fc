/** Asks for a token. */

import { element } from "./elements.js";
import { signIn } from "./session.js";

/** The page: `{node, title, begin}`; `done()` is called once there is a token to try. */
export function signInPage(reason, done) {
  const input = element("input", {
    type: "password",
    name: "token",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "token-help",
  });
  const complaint = element("p", { class: "complaint", role: "alert" }, reason);
  const onsubmit = (event) => {
    event.preventDefault();
    if (signIn(input.value)) {
      done();
    } else {
      complaint.textContent = "That is no token: it has to be one word without other characters.";
    }
  };
  const node = element(
    "main",
    { id: "content", class: "sign-in", tabindex: -1 },
    element("h1", {}, "Pipeline runs"),
    complaint,
    element(
      "form",
      { onsubmit },
      element("label", {}, element("span", {}, "Token"), input),
      element(
        "p",
        { id: "token-help", class: "aside" },
        "It stays in this tab and is forgotten when the tab is closed. On a local stack ",
        element("code", {}, "make token"),
        " prints one.",
      ),
      element("button", { type: "submit", class: "primary" }, "Sign in"),
    ),
  );
  return { node, title: () => "Sign in", begin: () => input.focus() };
}
