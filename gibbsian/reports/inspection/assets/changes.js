// Two runs: what moved most, head by head and on the whole.

function changesPanel() {
  if (BASE === null) return null;
  const names = [...QUANTITIES.keys()].filter((name) => name in MAIN.maps && name in BASE.maps);
  if (names.length === 0) return null;
  const means = element("table", { class: "changes" }, element("caption", {}, "Means over all heads"),
    element("thead", {}, row("th", ["", "Baseline", "This run", "Change"])));
  const body = element("tbody");
  for (const name of names) {
    const { title, unit } = quantityOf.get(name);
    const [then, now] = [BASE, MAIN].map((side) => mean(side.maps[name].filter(present)));
    const button = element("button", { type: "button", class: "link", click: () => update({ map: name }) }, title);
    const change = now - then;
    body.append(row("td", [button, format(then), format(now), `${change > 0 ? "+" : ""}${format(change)}${unit ? ` ${unit}` : ""}`]));
  }
  means.append(body);
  return panel("changes", "Against the baseline", `${MAIN.model} against ${BASE.model}.`,
    element("div", { class: "beside even" }, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Means" }, means),
      SAME_SHAPE ? mostMoved() : null));
}

const mean = (values) => sum(values) / Math.max(1, values.length);

function row(tag, cells) {
  return element("tr", {}, ...cells.map((cell) => element(tag, {}, cell)));
}

/** The heads that the chosen observable moved most, with a way to each. */
function mostMoved() {
  const list = element("ol", { class: "moved" });
  const caption = element("p", { class: "caption" });
  function draw() {
    if (!isThere(state.map, "difference")) return list.replaceChildren();
    const grid = gridOf(state.map, "difference");
    const [now, then] = ["main", "baseline"].map((view) => gridOf(state.map, view));
    const top = grid.values
      .map((value, i) => [value, i])
      .filter(([value]) => present(value))
      .sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]))
      .slice(0, 8);
    const most = Math.abs(top[0]?.[0] ?? 0) || 1;
    caption.textContent = `Heads that moved most: ${quantityOf.get(state.map).title.toLowerCase()}`;
    return list.replaceChildren(...top.map(([value, i]) => {
      const head = [Math.floor(i / grid.heads), i % grid.heads];
      return element("li", {}, element("button", {
        type: "button", class: value < 0 ? "less" : "more", click: () => update({ head }),
        "--share": `${(100 * Math.abs(value)) / most}%`,
      }, element("span", {}, headName(head)),
      element("span", { class: "value" }, `${format(then.values[i])} → ${format(now.values[i])}`),
      element("b", {}, grid.text(value))));
    }));
  }
  watch(["map"], draw);
  draw();
  return element("div", {}, caption, list);
}
