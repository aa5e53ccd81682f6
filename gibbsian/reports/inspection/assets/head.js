// The card beside the map: every observable of the chosen head among all heads.

function headCard() {
  const title = element("h3", { id: "head-title" });
  const release = element("button", { type: "button", class: "plain", click: () => choose(state.head) }, "All heads");
  const hint = element("p", { class: "note" });
  const list = element("div", { class: "strips" });
  const rows = new Map();
  for (const { name, title: label, symbol } of QUANTITIES.values()) {
    if (!(name in MAIN.maps)) continue;
    const canvas = element("canvas", { class: "strip", width: 240, height: 20, "aria-hidden": "true" });
    const value = element("span", { class: "value" });
    const button = element("button", {
      type: "button", class: "strip-row", title: label, "aria-label": label,
      click: () => update({ map: name }),
    }, element("span", { class: "symbol" }, symbol || label), canvas, value);
    rows.set(name, { canvas, value, button, label });
    list.append(button);
  }

  function draw() {
    const { head } = state;
    title.textContent = head === null ? "All heads" : headName(head);
    release.hidden = head === null;
    hint.textContent = head === null
      ? "A mark a head; the number is the median. Choose a head on the map."
      : "Long mark: this head; dark marks: its layer; pale marks: all others.";
    const [faint, ink, accent] = ["--faint", "--ink", "--accent"].map(cssVariable);
    for (const [name, { canvas, value, button, label }] of rows) {
      const grid = gridOf(name, "main");
      const context = canvas.getContext("2d");
      const x = (cell) => 2 + grid.at(cell) * (canvas.width - 4);
      const mark = (cell, colour, from, height, width) => {
        context.fillStyle = colour;
        context.fillRect(x(cell) - width / 2, from, width, height);
      };
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.globalAlpha = grid.values.length > 600 ? 0.25 : 0.5;
      for (const cell of grid.values) if (present(cell)) mark(cell, faint, 6, 8, 1.5);
      context.globalAlpha = 1;
      let shown = grid.sorted[Math.floor(grid.sorted.length / 2)];
      if (head !== null) {
        const start = head[0] * grid.heads;
        context.globalAlpha = 0.7;
        for (const cell of grid.values.slice(start, start + grid.heads)) if (present(cell)) mark(cell, ink, 5, 10, 1.5);
        context.globalAlpha = 1;
        shown = grid.values[start + head[1]];
        if (present(shown)) mark(shown, accent, 0, 20, 4);
      }
      value.textContent = format(shown);
      button.classList.toggle("current", name === state.map);
      button.setAttribute("aria-label", `${label}: ${grid.text(shown ?? null)}`);
    }
  }

  watch(["head", "map", "theme"], draw);
  draw();
  return element("aside", { class: "card", "aria-labelledby": "head-title" },
    element("div", { class: "map-head" }, title, release), hint, list);
}
