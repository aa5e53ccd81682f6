// Data, state, and the few helpers that every panel uses. Text from the data is only ever set as
// text: `element` appends strings, which the DOM takes as text nodes, and nothing sets innerHTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const MAIN = DATA.main;
const BASE = DATA.baseline;
const SAME_SHAPE = BASE !== null && BASE.layers === MAIN.layers && BASE.heads === MAIN.heads;

const state = {
  map: null, // name of the observable on the large map
  view: "main", // or "baseline", "difference"
  head: null, // [layer, head], or null for all of them
  sorted: false, // heads of a layer in the order of their values
  colour: null, // what colours the text
  input: 0,
  hidden: new Set(), // quadrants that the legend has switched off
  theme: "system",
};
const watchers = [];

/** Call `draw` whenever one of `keys` is updated. */
function watch(keys, draw) {
  watchers.push([keys, draw]);
}

function update(patch) {
  Object.assign(state, patch);
  for (const [keys, draw] of watchers) if (keys.some((key) => key in patch)) draw();
}

function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function drawn(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key, value);
    else if (key.startsWith("--")) node.style.setProperty(key, value);
    else if (key === "style") Object.assign(node.style, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A number as a person writes it: three digits, thousands parted, a real minus. */
function format(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  let text;
  if (size === 0) text = "0";
  else if (size >= 10 ** digits) text = Math.round(size).toLocaleString("en");
  else if (size < 1e-4) text = size.toExponential(1).replace("e-", "e−");
  else if (size < 1e-3) text = size.toPrecision(2);
  else text = size.toPrecision(digits);
  return (value < 0 ? "−" : "") + text;
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(100 * share).toFixed(share > 0.9995 || share >= 0.1 ? 0 : 1)} %`;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const sum = (values) => values.reduce((a, b) => a + b, 0);
const headName = ([layer, head]) => `Layer ${layer}, head ${head}`;
const sameHead = (a, b) => a !== null && b !== null && a[0] === b[0] && a[1] === b[1];
const narrow = window.matchMedia("(max-width: 40rem)");
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

/** Choose a head, or let it go if it is the chosen one already. */
function choose(head) {
  update({ head: sameHead(head, state.head) ? null : head });
  announce(state.head === null ? "All heads" : `${headName(state.head)} chosen`);
}

function announce(text) {
  document.getElementById("live").textContent = text;
}

const tip = document.getElementById("tip");

let shownAt = 0; // when the tip was shown last, in milliseconds

/** Show `children` beside a box of the window: {left, right, top, bottom}. */
function showTip(box, children) {
  shownAt = performance.now();
  tip.replaceChildren(...children);
  tip.hidden = false;
  if (narrow.matches) {
    tip.classList.add("docked");
    tip.style.transform = "";
    return;
  }
  tip.classList.remove("docked");
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = clamp(box.left, 8, Math.max(8, document.documentElement.clientWidth - width - 8));
  const below = box.bottom + 10;
  const top = below + height + 8 > window.innerHeight ? Math.max(8, box.top - height - 10) : below;
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
}

let pointer = null; // where it was last

/** Did the pointer move, or did the page scroll below it? */
function hasMoved({ screenX, screenY }) {
  const same = pointer !== null && pointer[0] === screenX && pointer[1] === screenY;
  pointer = [screenX, screenY];
  return !same;
}

function hideTip() {
  tip.hidden = true;
}

// What the tip belongs to moves away; but showing it may itself have scrolled something.
document.addEventListener("scroll", () => {
  if (performance.now() - shownAt > 300) hideTip();
}, { capture: true, passive: true });

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});

/** Rows of names and numbers inside a tip or a card. */
function facts(rows) {
  const list = element("dl", { class: "rows" });
  for (const [name, value] of rows) list.append(element("dt", {}, name), element("dd", {}, value));
  return list;
}

function panel(id, title, text, ...children) {
  return element(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, title),
    text ? element("p", { class: "note" }, text) : null,
    ...children,
  );
}

let serial = 0;

/** Radio buttons that look like one bar of choices. */
function choices(label, options, current, choose) {
  const name = `choice-${(serial += 1)}`;
  const bar = element("fieldset", { class: "choices" }, element("legend", {}, label));
  for (const { value, title, disabled } of options) {
    const input = element("input", {
      type: "radio",
      name,
      value,
      checked: value === current,
      disabled,
      change: () => choose(value),
    });
    bar.append(element("label", {}, input, element("span", {}, title)));
  }
  return bar;
}
