// What the sparsity schedule would do to each head, and how well linear response foretells it.

function responsePanel() {
  const names = ["zeta", "support_size"].filter((name) => name in MAIN.maps);
  const points = MAIN.points;
  const some = points !== null && points.measured.some((value) => usable(value, true));
  if (names.length === 0 && !some) return null;
  const holder = element("div", { class: "response" });
  for (const name of names) {
    const { title, symbol, meaning } = quantityOf.get(name);
    const { root } = heatmap({ name: () => name, profile: true });
    holder.append(element("div", {}, element("h3", {}, title, " ", element("i", {}, symbol)),
      element("p", { class: "note" }, meaning), root));
  }
  return panel("sparsity", "What sparsity would do", null,
    element("div", { class: "beside even" }, holder, some ? supportScatter(points) : null));
}

/** No row keeps less than one key: a prediction far below is as good as half of one. */
const FEWEST = 0.5;
/** Below this sparsity linear response is told apart. */
const WEAK = 0.1;

function supportScatter(points) {
  const under = points.predicted.filter((value) => usable(value, true) && value < FEWEST).length;
  const note = element("p", { class: "note", "aria-live": "polite" });
  const zeta = (i) => css(colourAt(VIRIDIS, faintest() + (1 - faintest()) * (points.zeta[i] ?? 0)), 0.8);
  // The dark end of the scale would be lost on a dark page.
  const faintest = () => (isDark() ? 0.25 : 0);
  const mine = (i) => state.head !== null && points.layer[i] === state.head[0] && points.head[i] === state.head[1];
  const plot = scatter({
    points: { x: points.measured, y: points.predicted },
    log: true,
    floor: FEWEST,
    labels: { x: "measured (keys)", y: "predicted from S, V, κ₃ (keys)" },
    summary: `Predicted against measured effective support of ${points.measured.length} rows. ${agreement(() => true)}`,
    style: (i, front) => {
      if (state.head === null) return front ? null : zeta(i);
      if (mine(i)) return front ? cssVariable("--accent") : null;
      return front ? null : cssVariable("--mist");
    },
    tell: (i) => [
      element("strong", {}, headName([points.layer[i], points.head[i]])),
      facts([["measured", format(points.measured[i])], ["predicted", format(points.predicted[i])], ["ζ", format(points.zeta[i])]]),
    ],
    pick: (i) => choose([points.layer[i], points.head[i]]),
  });

  function agreement(belongs) {
    const ratios = [];
    const weak = []; // of those with little sparsity
    for (let i = 0; i < points.measured.length; i += 1) {
      if (belongs(i) && usable(points.measured[i], true) && usable(points.predicted[i], true)) {
        ratios.push(points.predicted[i] / points.measured[i]);
        if (points.zeta[i] < WEAK) weak.push(ratios.at(-1));
      }
    }
    if (ratios.length === 0) return "No sampled row of this head.";
    ratios.sort((a, b) => a - b);
    const close = (all) => percent(all.filter((ratio) => ratio >= 0.5 && ratio <= 2).length / all.length);
    const some = weak.length > 0 && weak.length < ratios.length;
    return `${ratios.length.toLocaleString("en")} rows: ${close(ratios)} within a factor of two` +
      `${some ? `, ${close(weak)} of the ${weak.length.toLocaleString("en")} with ζ below ${WEAK}` : ""}` +
      `; median ratio ${format(ratios[Math.floor(ratios.length / 2)])}.`;
  }

  const colours = element("div", { class: "bar-colours" });
  const drawBar = () => {
    colours.style.backgroundImage = gradient(VIRIDIS.map((_, i, all) => colourAt(VIRIDIS, faintest() + ((1 - faintest()) * i) / (all.length - 1))));
  };
  watch(["theme"], drawBar);
  drawBar();
  const bar = element("div", { class: "colourbar slim" },
    colours,
    element("div", { class: "bar-ticks" }, element("span", {}, "ζ = 0"), element("span", {}, "ζ = 1")));

  function drawAll() {
    bar.hidden = state.head !== null; // its points have the accent colour
    note.textContent = (state.head === null ? "" : `${headName(state.head)}, `) + agreement(state.head === null ? () => true : mine);
    plot.draw();
  }
  watch(["head"], drawAll);
  note.textContent = agreement(() => true);
  return element("div", {}, element("h3", {}, "Effective support, predicted against measured"), note, plot.root, bar,
    under > 0 ? element("p", { class: "note" }, `${under.toLocaleString("en")} rows with a prediction below half a key lie on the lower edge: linear response ends where sparsity is strong.`) : null);
}
