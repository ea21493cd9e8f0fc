/** Elements of the page, made of names and texts: nothing from outside is ever markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An HTML element.
 *
 * Attributes are set as they are named; `onclick` and the like take a listener; what is null,
 * undefined or false is left out, and true is an attribute without a value. Children are nodes and
 * texts; null, undefined and false are left out.
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element, in the same way. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      node.addEventListener(name.slice("on".length), value);
    } else if (value === true) {
      node.setAttribute(name, "");
    } else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, String(value));
    }
  }
  node.append(...present(children));
  return node;
}

/** Without what is left out. */
function present(children) {
  const isThere = (child) => child !== null && child !== undefined && child !== false;
  return children.flat(Infinity).filter(isThere);
}

/** Puts other children into a node; what had the focus has it still if it is there again. */
export function refill(node, ...children) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  node.replaceChildren(...present(children));
  if (focused && !focused.isConnected && focused.dataset.key) {
    for (const one of node.querySelectorAll("[data-key]")) {
      if (one.dataset.key === focused.dataset.key) {
        one.focus({ preventScroll: true });
      }
    }
  }
}

/** A link to another site's page or file; only its text, if the address is none of the web's. */
export function outwardLink(address, text) {
  const isOfTheWeb = URL.canParse(address) && /^https?:$/.test(new URL(address).protocol);
  if (!isOfTheWeb) {
    return element("span", {}, text);
  }
  const outward = { target: "_blank", rel: "noopener noreferrer" };
  return element("a", { href: address, ...outward }, text);
}

/** Says something to who listens to the page rather than looks at it. */
export function announce(text) {
  document.getElementById("announcements").textContent = text;
}
