// An observable over the heads of one side, or the difference of two sides, with its scale.

const QUANTITIES = new Map(
  DATA.quantities
    .filter(({ name }) => name in MAIN.maps || (BASE !== null && name in BASE.maps))
    .map((quantity) => [quantity.name, quantity]),
);
const quantityOf = new Map(DATA.quantities.map((quantity) => [quantity.name, quantity]));
const grids = new Map();

const sideOf = (view) => (view === "baseline" ? BASE : MAIN);

/** Is there anything to show of `name` in this view? */
function isThere(name, view) {
  if (view !== "difference") return name in sideOf(view).maps;
  return SAME_SHAPE && name in MAIN.maps && name in BASE.maps;
}

/** Values and scale of an observable: {values, layers, heads, low, high, at(value), text(value)}. */
function gridOf(name, view = "main") {
  const key = `${name} ${view}`;
  if (!grids.has(key)) grids.set(key, view === "difference" ? difference(name) : amount(name, view));
  return grids.get(key);
}

function amount(name, view) {
  const { scale, unit } = quantityOf.get(name);
  const { layers, heads, maps } = sideOf(view);
  // Both sides share a scale: going to and fro between them then shows the change.
  const shown = [MAIN, BASE].flatMap((side) => (side !== null && side.maps[name]) || []).filter(present);
  const log = scale === "log" && shown.every((value) => value > 0);
  const diverging = scale === "signed" && Math.min(...shown) < 0 && Math.max(...shown) > 0;
  const text = (value) => format(value) + (unit && value !== null ? ` ${unit}` : "");
  return scaled({ values: maps[name], layers, heads, shown, log, diverging, text });
}

function difference(name) {
  const { scale, unit } = quantityOf.get(name);
  const [now, then] = [MAIN.maps[name], BASE.maps[name]];
  // Sizes are compared by their ratio, all else by the difference.
  const ratio = scale === "log" && [...now, ...then].filter(present).every((value) => value > 0);
  const values = now.map((value, i) => {
    if (!present(value) || !present(then[i])) return null;
    return ratio ? Math.log(value / then[i]) : value - then[i];
  });
  const text = (value) => {
    if (!present(value)) return "–";
    if (ratio) return `× ${format(Math.exp(value))}`;
    return (value > 0 ? "+" : "") + format(value) + (unit ? ` ${unit}` : "");
  };
  const shown = values.filter(present);
  const { layers, heads } = MAIN;
  return scaled({ values, layers, heads, shown, log: false, diverging: true, text });
}

const present = (value) => value !== null && value !== undefined;

function scaled({ values, layers, heads, shown, log, diverging, text }) {
  const bend = log ? Math.log : (value) => value;
  const sorted = shown.map(bend).sort((a, b) => a - b);
  const quantile = (q) => sorted[Math.round(q * (sorted.length - 1))];
  let [low, high] = [sorted[0], sorted.at(-1)];
  // A few outliers must not paint all others in one colour: the scale ends before them, and says so.
  const [inner, outer] = [quantile(0.05), quantile(0.95)];
  const clipsLow = inner - low > outer - inner;
  const clipsHigh = high - outer > outer - inner;
  if (clipsLow && outer > inner) low = inner;
  if (clipsHigh && outer > inner) high = outer;
  if (diverging) {
    high = Math.max(Math.abs(low), Math.abs(high)) || 1;
    low = -high;
  }
  const at = (value) => (high > low ? clamp((bend(value) - low) / (high - low), 0, 1) : 0.5);
  const back = log ? Math.exp : (value) => value;
  return {
    values, layers, heads, log, diverging, at, text, bend,
    low: back(low),
    high: back(high),
    middle: back((low + high) / 2),
    clipsLow: outer > inner && clipsLow,
    clipsHigh: outer > inner && clipsHigh,
    sorted: sorted.map(back),
  };
}

/** Share of the heads of which the value is greater than theirs. */
function rankOf(grid, value) {
  return grid.sorted.filter((other) => other < value).length / Math.max(1, grid.sorted.length - 1);
}
