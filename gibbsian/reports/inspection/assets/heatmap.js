// A map of all heads: layers from left to right, heads from top to bottom.

/** One pixel a head, which the browser enlarges: for the small maps. */
function paintPixels(canvas, grid) {
  const { layers, heads, values, at, diverging } = grid;
  canvas.width = layers;
  canvas.height = heads;
  const context = canvas.getContext("2d");
  const image = context.createImageData(layers, heads);
  const colours = palette(diverging);
  for (let layer = 0; layer < layers; layer += 1) {
    for (let head = 0; head < heads; head += 1) {
      const value = values[layer * heads + head];
      if (!present(value)) continue; // an absent head stays transparent
      image.data.set([...colourAt(colours, at(value)), 255], 4 * (head * layers + layer));
    }
  }
  context.putImageData(image, 0, 0);
}

/** Cells with a hair of space between them, sharp at the canvas' size on the screen. */
function paintCells(canvas, grid, order) {
  const { layers, heads, values, at, diverging } = grid;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.round(size * ratio));
  if (width === 0) return;
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const colours = palette(diverging);
  const paper = cssVariable("--page"); // between the cells, and not the hatching of absent heads
  const gap = width / layers > 5 * ratio && height / heads > 5 * ratio ? Math.round(ratio) : 0;
  const edge = (size, i, count) => Math.round((size * i) / count);
  for (let layer = 0; layer < layers; layer += 1) {
    const [left, right] = [edge(width, layer, layers), edge(width, layer + 1, layers)];
    for (let row = 0; row < heads; row += 1) {
      const value = values[layer * heads + (order ? order[layer][row] : row)];
      if (!present(value)) continue; // an absent head stays transparent
      const [top, bottom] = [edge(height, row, heads), edge(height, row + 1, heads)];
      context.fillStyle = paper;
      context.fillRect(left, top, right - left, bottom - top);
      context.fillStyle = css(colourAt(colours, at(value)));
      context.fillRect(left, top, right - left - gap, bottom - top - gap);
    }
  }
}

/** Heads of every layer from the greatest value to the smallest; absent ones last. */
function descending({ layers, heads, values }) {
  return Array.from({ length: layers }, (_, layer) => {
    const value = (head) => values[layer * heads + head] ?? -Infinity;
    return Array.from({ length: heads }, (_, head) => head).sort((a, b) => value(b) - value(a));
  });
}

function cellFacts(name, [layer, head]) {
  const { title, symbol } = quantityOf.get(name);
  const rows = [];
  for (const view of BASE === null ? ["main"] : ["main", "baseline", "difference"]) {
    if (!isThere(name, view)) continue;
    const grid = gridOf(name, view);
    if (layer >= grid.layers || head >= grid.heads) continue;
    const label = BASE === null ? symbol || title : { main: "this run", baseline: "baseline" }[view] ?? view;
    rows.push([label, grid.text(grid.values[layer * grid.heads + head])]);
  }
  const grid = gridOf(name, isThere(name, "main") ? "main" : "baseline");
  const value = grid.values[layer * grid.heads + head];
  if (present(value)) rows.push(["higher than", `${percent(rankOf(grid, value))} of the heads`]);
  return { title, rows };
}

/**
 * Args:
 *   name: function that returns the observable to show.
 *   view: function that returns "main", "baseline" or "difference".
 *   sorted: function that says whether the heads of a layer are in the order of their values.
 *   profile: whether the mean over heads is drawn above the map.
 */
function heatmap({ name, view = () => "main", sorted = () => false, profile = true }) {
  const canvas = element("canvas", { class: "cells", "aria-hidden": "true" });
  const cursor = element("div", { class: "cursor", hidden: true });
  const chosen = element("div", { class: "chosen", hidden: true });
  const help = element("p", { class: "hidden", id: `map-help-${(serial += 1)}` },
    "Arrow keys move between heads. Enter chooses a head for all panels, Escape lets it go.");
  const area = element("div", {
    class: "area", tabindex: "0", role: "application", "aria-roledescription": "map of heads",
    "aria-describedby": help.id,
  }, canvas, chosen, cursor);
  const line = drawn("svg", { class: "profile", preserveAspectRatio: "none", "aria-hidden": "true" });
  const layerTicks = element("div", { class: "ticks across", "aria-hidden": "true" });
  const headTicks = element("div", { class: "ticks down", "aria-hidden": "true" });
  const headAxis = element("span", { class: "axis" });
  const bar = element("div", { class: "bar-colours" });
  const barTicks = element("div", { class: "bar-ticks" });
  const root = element("div", { class: "heatmap" },
    profile ? element("span", { class: "profile-label" }, "mean") : null,
    profile ? line : null,
    headTicks, area, layerTicks,
    element("div", { class: "legend" }, element("div", { class: "axes" }, "layer →", headAxis),
      element("div", { class: "colourbar" }, bar, barTicks)),
    help);

  let grid = null;
  let order = null;
  let at = null; // the head under the pointer or the keyboard, as [layer, row on the screen]

  const headAt = ([layer, row]) => [layer, order ? order[layer][row] : row];
  const rowOf = ([layer, head]) => (order ? order[layer].indexOf(head) : head);

  function place(marker, layer, row) {
    const inside = layer < grid.layers && row >= 0 && row < grid.heads;
    marker.hidden = !inside;
    Object.assign(marker.style, {
      left: `${(100 * layer) / grid.layers}%`,
      top: `${(100 * row) / grid.heads}%`,
      width: `${100 / grid.layers}%`,
      height: `${100 / grid.heads}%`,
    });
  }

  function mark() {
    if (state.head === null) chosen.hidden = true;
    else place(chosen, state.head[0], rowOf(state.head));
  }

  function draw() {
    if (!isThere(name(), view())) {
      root.hidden = true;
      return;
    }
    root.hidden = false;
    grid = gridOf(name(), view());
    order = sorted() ? descending(grid) : null;
    const { layers, heads } = grid;
    root.style.setProperty("--rows", heads);
    paintCells(canvas, grid, order);
    area.setAttribute("aria-label", `${quantityOf.get(name()).title}, ${layers} layers of ${heads} heads`);
    ticks(layerTicks, layers, "left", 12);
    ticks(headTicks, heads, "top", 12);
    headTicks.classList.toggle("unnamed", order !== null);
    headAxis.textContent = order ? "heads, highest on top" : "head ↓";
    if (profile) drawProfile();
    root.classList.toggle("flat", layers === 1);
    bar.style.backgroundImage = gradient(palette(grid.diverging));
    const [least, most] = [grid.clipsLow ? "≤ " : "", grid.clipsHigh ? "≥ " : ""];
    barTicks.replaceChildren(
      element("span", {}, least + grid.text(grid.low)),
      element("span", {}, grid.text(grid.middle)),
      element("span", {}, most + grid.text(grid.high)),
    );
    cursor.hidden = true;
    mark();
  }

  function drawProfile() {
    const { layers, heads } = grid;
    const points = [];
    for (let layer = 0; layer < layers; layer += 1) {
      const column = grid.values.slice(layer * heads, (layer + 1) * heads).filter(present);
      if (column.length === 0) continue;
      const places = column.map(grid.at);
      points.push([layer + 0.5, sum(places) / places.length, Math.min(...places), Math.max(...places)]);
    }
    const path = (list) => list.map(([x, y]) => `${x},${1 - y}`).join(" ");
    const band = [...points.map(([x, , , most]) => [x, most]), ...points.toReversed().map(([x, , least]) => [x, least])];
    line.setAttribute("viewBox", `0 -0.04 ${layers} 1.08`);
    line.replaceChildren(
      drawn("polygon", { class: "band", points: path(band) }),
      drawn("polyline", { class: "mean", points: path(points) }),
    );
  }

  function read(box) {
    place(cursor, ...at);
    const head = headAt(at);
    const { title, rows } = cellFacts(name(), head);
    showTip(box, [element("strong", {}, headName(head)), element("p", {}, title), facts(rows)]);
    return `${headName(head)}: ${rows.map(([label, value]) => `${label} ${value}`).join(", ")}`;
  }

  function cellBox() {
    return cursor.getBoundingClientRect();
  }

  function under(event) {
    const box = area.getBoundingClientRect();
    const layer = Math.floor(((event.clientX - box.left) / box.width) * grid.layers);
    const row = Math.floor(((event.clientY - box.top) / box.height) * grid.heads);
    return [clamp(layer, 0, grid.layers - 1), clamp(row, 0, grid.heads - 1)];
  }

  area.addEventListener("pointermove", (event) => {
    const found = under(event);
    if (at !== null && !tip.hidden && found[0] === at[0] && found[1] === at[1]) return;
    at = found;
    place(cursor, ...at);
    read(cellBox());
  });
  area.addEventListener("pointerleave", () => {
    if (document.activeElement !== area || !area.matches(":focus-visible")) cursor.hidden = true;
    hideTip();
  });
  area.addEventListener("click", (event) => {
    at = under(event);
    choose(headAt(at));
  });
  area.addEventListener("focus", () => {
    if (!area.matches(":focus-visible")) return;
    at ??= state.head === null ? [0, 0] : [state.head[0], rowOf(state.head)];
    at = [clamp(at[0], 0, grid.layers - 1), clamp(at[1], 0, grid.heads - 1)];
    place(cursor, ...at);
    announce(read(cellBox()));
  });
  area.addEventListener("blur", () => {
    cursor.hidden = true;
    hideTip();
  });
  area.addEventListener("keydown", (event) => {
    at ??= [0, 0];
    const [layer, row] = at;
    const last = grid.layers - 1;
    const moves = {
      ArrowLeft: [layer - 1, row], ArrowRight: [layer + 1, row],
      ArrowUp: [layer, row - 1], ArrowDown: [layer, row + 1],
      Home: [0, row], End: [last, row], PageUp: [layer, 0], PageDown: [layer, grid.heads - 1],
    };
    if (event.key in moves) {
      at = [clamp(moves[event.key][0], 0, last), clamp(moves[event.key][1], 0, grid.heads - 1)];
      place(cursor, ...at);
      announce(read(cellBox()));
    } else if (event.key === "Enter" || event.key === " ") choose(headAt(at));
    else if (event.key === "Escape") update({ head: null });
    else return;
    event.preventDefault();
  });

  draw();
  new ResizeObserver(() => grid && paintCells(canvas, grid, order)).observe(area);
  watch(["theme"], draw);
  watch(["head"], mark);
  return { root, draw };
}

function ticks(holder, count, side, most) {
  const step = [1, 2, 5, 10, 20, 50].find((size) => count / size <= most + 4) ?? 100;
  const labels = [];
  for (let i = 0; i < count; i += step) {
    labels.push(element("span", { style: { [side]: `${(100 * (i + 0.5)) / count}%` } }, String(i)));
  }
  holder.replaceChildren(...labels);
}
