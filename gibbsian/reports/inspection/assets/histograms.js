// Distributions over the rows: the chosen head against its layer and against all heads.

function histogramsPanel() {
  const names = Object.keys(MAIN.histograms).filter((name) => quantityOf.has(name));
  if (names.length === 0) return null;
  const order = [...quantityOf.keys()];
  names.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  const key = element("div", { class: "keys" });
  function drawKey() {
    const layer = state.head === null ? null : state.head[0];
    key.replaceChildren(
      state.head === null ? "" : element("span", { class: "key head-key" }, headName(state.head)),
      layer === null ? "" : element("span", { class: "key layer-key" }, `Layer ${layer}`),
      element("span", { class: "key all-key" }, "All heads"),
      BASE === null ? "" : element("span", { class: "key base-key" }, state.head === null ? "Baseline" : "Baseline, same head"),
    );
  }
  watch(["head"], drawKey);
  drawKey();
  return panel("distributions", "Distributions", "Share of the rows in each bin.", key,
    element("div", { class: "histograms" }, ...names.map(histogram)));
}

/** Shares of the rows by bin, over the heads with these indices; null where there are none. */
function shares(counts, indices) {
  const present = indices.map((i) => counts[i]).filter(Boolean);
  if (present.length === 0) return null;
  const total = present[0].map((_, bin) => sum(present.map((row) => row[bin])));
  const all = sum(total);
  return all > 0 ? total.map((count) => count / all) : null;
}

const everyHead = (side) => Array.from({ length: side.layers * side.heads }, (_, i) => i);

function histogram(name) {
  const { title, symbol, unit } = quantityOf.get(name);
  const { edges, counts } = MAIN.histograms[name];
  const bins = edges.length - 1;
  const all = shares(counts, everyHead(MAIN));
  // Every bin is equally wide on the page, whatever its edges: the axis bends as the bins do.
  // Bins at the far end that no row reaches are cut off, unless the quantity is a share.
  const base = baseHistogram(name);
  const reached = (counts) => Math.max(...counts.map((row) => (row ? row.findLastIndex((n) => n > 0) : -1)));
  const shown = unit ? Math.max(1, reached(counts) + 1, base ? reached(base.counts) + 1 : 0) : bins;
  const x = (bin) => (100 * bin) / shown;

  const svg = drawn("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const pointer = element("div", { class: "bin", hidden: true });
  const area = element("div", { class: "area", tabindex: "0", role: "application", "aria-roledescription": "histogram" }, svg, pointer);
  const figure = element("figure", { class: "histogram" },
    element("figcaption", {}, title, " ", element("i", {}, symbol)), area,
    element("div", { class: "bar-ticks" }, ...[0, shown / 2, shown].map((bin, i) =>
      element("span", {}, format(edgeAt(edges, bin)) + (i === 2 && unit ? ` ${unit}` : "")))));

  let curves = [];
  let current = 0;

  function draw() {
    const { head } = state;
    curves = [{ label: "all heads", shares: all, kind: "all" }];
    if (head !== null) {
      const start = head[0] * MAIN.heads;
      const layer = Array.from({ length: MAIN.heads }, (_, i) => start + i);
      curves.push({ label: `layer ${head[0]}`, shares: shares(counts, layer), kind: "layer" });
      curves.push({ label: `head ${head[0]}.${head[1]}`, shares: shares(counts, [start + head[1]]), kind: "head" });
    }
    if (base) {
      const indices = head === null ? everyHead(BASE) : [head[0] * BASE.heads + head[1]];
      curves.push({ label: "baseline", shares: shares(base.counts, indices), kind: "base" });
    }
    curves = curves.filter((curve) => curve.shares !== null);
    const top = Math.max(...curves.flatMap((curve) => curve.shares)) || 1;
    svg.replaceChildren(...curves.map((curve) => drawn("path", {
      class: curve.kind,
      d: outline(curve.shares.slice(0, shown).map((share) => 100 - (96 * share) / top), x),
    })));
    area.setAttribute("aria-label", `${title}: ${curves.map((curve) => `${curve.label}, most rows near ${format(mode(curve.shares, edges))}`).join("; ")}`);
  }

  function read() {
    pointer.hidden = false;
    Object.assign(pointer.style, { left: `${x(current)}%`, width: `${x(1)}%` });
    const range = `${format(edges[current])} to ${format(edges[current + 1])}${unit ? ` ${unit}` : ""}`;
    const rows = curves.map((curve) => [curve.label, percent(curve.shares[current])]).reverse();
    showTip(pointer.getBoundingClientRect(), [element("strong", {}, range), facts(rows)]);
    return `${range}: ${rows.map((row) => row.join(" ")).join(", ")}`;
  }

  area.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect();
    current = clamp(Math.floor((shown * (event.clientX - box.left)) / box.width), 0, shown - 1);
    read();
  });
  const leave = () => {
    pointer.hidden = true;
    hideTip();
  };
  area.addEventListener("pointerleave", leave);
  area.addEventListener("blur", leave);
  area.addEventListener("focus", () => {
    if (area.matches(":focus-visible")) announce(read());
  });
  area.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    current = clamp(current + step, 0, shown - 1);
    announce(read());
    event.preventDefault();
  });
  watch(["head"], draw);
  draw();
  return figure;
}

/** The baseline's, if it has the same bins. */
function baseHistogram(name) {
  const [now, then] = [MAIN.histograms[name], BASE?.histograms[name]];
  const same = then && then.edges.length === now.edges.length && then.edges.every((edge, i) => edge === now.edges[i]);
  return same ? then : null;
}

const mode = (values, edges) => {
  const bin = values.indexOf(Math.max(...values));
  return (edges[bin] + edges[bin + 1]) / 2;
};

/** An edge, or half-way between two of them the middle of the bin. */
const edgeAt = (edges, bin) => (edges[Math.floor(bin)] + edges[Math.ceil(bin)]) / 2;

function outline(heights, x) {
  const steps = heights.map((y, bin) => `L${x(bin).toFixed(2)},${y.toFixed(2)}L${x(bin + 1).toFixed(2)},${y.toFixed(2)}`);
  return `M0,100${steps.join("")}L100,100Z`;
}
