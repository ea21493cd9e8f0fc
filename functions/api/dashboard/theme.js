/** Light or dark: as the system has it, or as the viewer chooses. */

import { element } from "./elements.js";

const KEPT_AS = "pipeline-runs-theme";
const CHOICES = { system: "System", light: "Light", dark: "Dark" };

/** Shows the page as it was chosen last. */
export function applyTheme() {
  document.documentElement.dataset.theme = chosen();
}

/** Lets the viewer choose. */
export function themeChoice() {
  const options = Object.entries(CHOICES).map(([value, name]) =>
    element("option", { value, selected: value === chosen() }, name),
  );
  const onchange = (event) => {
    localStorage.setItem(KEPT_AS, event.target.value);
    applyTheme();
  };
  return element("select", { class: "theme", "aria-label": "Theme", onchange }, options);
}

function chosen() {
  const kept = localStorage.getItem(KEPT_AS);
  return kept in CHOICES ? kept : "system";
}
