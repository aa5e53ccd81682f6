// Viridis for amounts: uniform in lightness and safe for the colour-blind. Differences run from blue
// over the page's own tone to red.

const VIRIDIS = stops(
  "440154 481a6c 472f7d 414487 39568c 31688e 2a788e 23888e 1f988b 22a884 35b779 54c568 7ad151 a5db36 d2e21b fde725",
);
const DIVERGING = {
  light: stops("053061 2065ab 4393c3 90c4dd d1e5f0 f7f6f6 fddbc7 f3a481 d6604d b1182b 67001f"),
  dark: stops("9eb0ff 62a6e0 3280a6 20526a 173644 24211f 45211a 61200b 964a36 ca7b71 ffadad"),
};

function stops(text) {
  return text.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
}

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return state.theme === "dark" || (state.theme === "system" && prefersDark.matches);
}

const palette = (diverging) => (diverging ? DIVERGING[isDark() ? "dark" : "light"] : VIRIDIS);

/** Colour at `position` in [0, 1] of a palette, as [red, green, blue]. */
function colourAt(colours, position) {
  const place = clamp(position, 0, 1) * (colours.length - 1);
  const i = Math.min(Math.floor(place), colours.length - 2);
  return colours[i].map((from, k) => Math.round(from + (colours[i + 1][k] - from) * (place - i)));
}

const css = ([red, green, blue], alpha = 1) => `rgba(${red},${green},${blue},${alpha})`;

const gradient = (colours, direction = "to right") =>
  `linear-gradient(${direction}, ${colours.map((c) => css(c)).join(", ")})`;

const variables = new Map();

/** A colour of the style sheet, for what is drawn on a canvas. */
function cssVariable(name) {
  if (!variables.has(name)) {
    variables.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  }
  return variables.get(name);
}

// The first of all watchers: the others draw with the new colours.
watch(["theme"], () => variables.clear());

prefersDark.addEventListener("change", () => update({ theme: state.theme }));
