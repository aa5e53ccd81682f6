// Points on a canvas, axes in HTML around it, the nearest point under the pointer in a tip.

/**
 * Args:
 *   points: {x, y} arrays of numbers, null where a point is absent.
 *   log: both axes are logarithmic, with one range, and the diagonal is drawn.
 *   floor: what lies below is drawn on the edge.
 *   lines: {x, y} values at which a threshold is drawn.
 *   style: function of a point's index and `front` that returns a colour, or null to leave it out.
 *   tell: function of a point's index that returns what the tip shows.
 */
function scatter({ points, log = false, floor = -Infinity, lines = null, labels, summary, style, tell, pick = null }) {
  const bend = log ? Math.log10 : (value) => value;
  const shown = points.x.flatMap((x, i) => (usable(x, log) && usable(points.y[i], log) ? [i] : []));
  const xs = Float64Array.from(shown, (i) => bend(Math.max(floor, points.x[i])));
  const ys = Float64Array.from(shown, (i) => bend(Math.max(floor, points.y[i])));
  let ranges = [range(xs), range(ys)];
  if (log) {
    const both = [Math.min(ranges[0][0], ranges[1][0]), Math.max(ranges[0][1], ranges[1][1])];
    ranges = [both, both];
  }
  const [left, right] = ranges[0];
  const [low, high] = ranges[1];
  const px = (value) => (value - left) / (right - left);
  const py = (value) => 1 - (value - low) / (high - low);

  const canvas = element("canvas", { "aria-hidden": "true" });
  const ring = element("div", { class: "ring", hidden: true });
  const area = element("div", { class: "area", role: "img", "aria-label": summary }, canvas, ring);
  const across = element("div", { class: "ticks across", "aria-hidden": "true" });
  const down = element("div", { class: "ticks down", "aria-hidden": "true" });
  for (const [value, text] of marks(left, right, log)) across.append(element("span", { style: { left: `${100 * px(value)}%` } }, text));
  for (const [value, text] of marks(low, high, log)) down.append(element("span", { style: { top: `${100 * py(value)}%` } }, text));
  const root = element("figure", { class: log ? "scatter square" : "scatter" },
    element("span", { class: "axis y-axis" }, labels.y), down, area, across, element("span", { class: "axis x-axis" }, labels.x));

  function draw() {
    const box = area.getBoundingClientRect();
    if (box.width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [box.width, box.height];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.strokeStyle = cssVariable("--line");
    const stroke = (x1, y1, x2, y2) => {
      context.beginPath();
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
      context.stroke();
    };
    for (const [value] of marks(left, right, log)) stroke(px(value) * width, 0, px(value) * width, height);
    for (const [value] of marks(low, high, log)) stroke(0, py(value) * height, width, py(value) * height);
    context.strokeStyle = cssVariable("--soft");
    if (log) stroke(0, height, width, 0);
    context.setLineDash([4, 3]);
    if (lines && usable(lines.x)) stroke(px(lines.x) * width, 0, px(lines.x) * width, height);
    if (lines && usable(lines.y)) stroke(0, py(lines.y) * height, width, py(lines.y) * height);
    context.setLineDash([]);
    const size = shown.length > 2000 ? 1.6 : 2.2;
    for (const front of [false, true]) {
      for (let k = 0; k < shown.length; k += 1) {
        const colour = style(shown[k], front);
        if (colour === null) continue;
        context.fillStyle = colour;
        context.beginPath();
        context.arc(px(xs[k]) * width, py(ys[k]) * height, front ? size + 0.6 : size, 0, 7);
        context.fill();
      }
    }
  }

  function nearest(event) {
    const box = area.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [-1, 24 ** 2];
    for (let k = 0; k < shown.length; k += 1) {
      const distance = (px(xs[k]) * box.width - x) ** 2 + (py(ys[k]) * box.height - y) ** 2;
      if (distance < least && (style(shown[k], false) !== null || style(shown[k], true) !== null)) {
        [best, least] = [k, distance];
      }
    }
    return best;
  }

  area.addEventListener("pointermove", (event) => {
    const k = nearest(event);
    ring.hidden = k < 0;
    if (k < 0) return hideTip();
    Object.assign(ring.style, { left: `${100 * px(xs[k])}%`, top: `${100 * py(ys[k])}%` });
    return showTip(ring.getBoundingClientRect(), tell(shown[k]));
  });
  area.addEventListener("pointerleave", () => {
    ring.hidden = true;
    hideTip();
  });
  if (pick !== null) {
    area.addEventListener("click", (event) => {
      const k = nearest(event);
      if (k >= 0) pick(shown[k]);
    });
  }
  new ResizeObserver(draw).observe(area);
  watch(["theme"], draw);
  return { root, draw };
}

const usable = (value, log = false) => Number.isFinite(value) && (!log || value > 0);

function range(values) {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const room = (high - low || 1) * 0.04;
  return values.length === 0 ? [0, 1] : [low - room, high + room];
}

/** Round values inside [low, high] with their labels. */
function marks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.ceil(low); power <= high; power += 1) found.push([power, (10 ** power).toLocaleString("en")]);
    return found;
  }
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((size) => size * unit >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    found.push([value, String(Number(value.toFixed(6))).replace("-", "−")]);
  }
  return found;
}
