/** What is around every page: whose runs these are, and the way to any of them. */

import { element } from "./elements.js";
import { runPlace, runsPlace } from "./places.js";
import { claims } from "./session.js";
import { themeChoice } from "./theme.js";

/** The top of the page; `leave()` signs out. */
export function frameTop(leave) {
  const stage = element("span", { class: "stage", hidden: true });
  const node = element(
    "header",
    { class: "top" },
    element("button", { type: "button", class: "skip", onclick: toContent }, "To the content"),
    element("a", { class: "brand", href: runsPlace() }, mark(), "Pipeline runs"),
    stage,
    goToRun(),
    element(
      "nav",
      { class: "top-links", "aria-label": "More" },
      themeChoice(),
      element("a", { href: "docs" }, "API"),
      element("button", { type: "button", title: whose(), onclick: leave }, "Sign out"),
    ),
  );
  return {
    node,
    /** Shows which of the service's stages this is. */
    showStage(name) {
      stage.textContent = name;
      stage.hidden = false;
    },
  };
}

function toContent() {
  document.getElementById("content").focus();
}

function mark() {
  return element("span", { class: "mark-of-brand", "aria-hidden": "true" });
}

function goToRun() {
  const input = element("input", {
    type: "text",
    inputmode: "numeric",
    pattern: "[1-9][0-9]{0,18}",
    required: true,
    placeholder: "Run number",
    "aria-label": "Run number",
    title: "A run's number",
    autocomplete: "off",
  });
  const onsubmit = (event) => {
    event.preventDefault();
    location.hash = runPlace(input.value.trim());
    input.value = "";
  };
  return element(
    "form",
    { class: "go", role: "search", onsubmit },
    input,
    element("button", { type: "submit" }, "Go"),
  );
}

function whose() {
  const told = claims();
  return told?.sub ? `Signed in as ${told.sub}` : "Signed in";
}
