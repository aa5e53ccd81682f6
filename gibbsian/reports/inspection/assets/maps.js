// The large map, the small ones to choose from, and the numbers as a table.

function mapsPanel() {
  const names = [...QUANTITIES.keys()];
  state.map = names.includes("normalized_entropy") ? "normalized_entropy" : names[0];

  const large = heatmap({ name: () => state.map, view: () => state.view, sorted: () => state.sorted });
  const title = element("h3", { class: "map-title" });
  const meaning = element("p", { class: "note" });
  const table = numbersTable();

  const tools = element("div", { class: "tools" });
  if (BASE !== null) {
    const options = [
      { value: "main", title: "This run" },
      { value: "baseline", title: "Baseline" },
      { value: "difference", title: "Difference", disabled: !SAME_SHAPE },
    ];
    state.view = SAME_SHAPE ? "difference" : "main";
    tools.append(choices("Show", options, state.view, (view) => update({ view })));
  }
  const order = [
    { value: "index", title: "by index" },
    { value: "value", title: "by value" },
  ];
  tools.append(choices("Heads", order, "index", (by) => update({ sorted: by === "value" })));

  const thumbs = element("div", { class: "thumbs", role: "radiogroup", "aria-label": "Observable on the map" });
  const canvases = new Map();
  for (const group of new Set([...QUANTITIES.values()].map((quantity) => quantity.group))) {
    const row = element("div", { class: "thumb-row" });
    for (const { name, title: label, symbol } of QUANTITIES.values()) {
      if (QUANTITIES.get(name).group !== group) continue;
      const canvas = element("canvas", { class: "cells pixels", "aria-hidden": "true" });
      canvases.set(name, canvas);
      const input = element("input", {
        type: "radio", name: "map", value: name, checked: name === state.map,
        change: () => update({ map: name }),
      });
      row.append(element("label", { class: "thumb", title: label }, input, canvas,
        element("span", { class: "thumb-name" }, label), element("span", { class: "thumb-symbol" }, symbol)));
    }
    thumbs.append(element("div", { class: "thumb-group" }, element("p", { class: "eyebrow" }, group), row));
  }

  function drawThumbs() {
    for (const [name, canvas] of canvases) {
      const there = isThere(name, state.view);
      canvas.closest("label").classList.toggle("absent", !there);
      if (there) paintPixels(canvas, gridOf(name, state.view));
    }
  }

  function drawTitle() {
    const { title: text, symbol, meaning: explained } = quantityOf.get(state.map);
    title.replaceChildren(text, " ", element("i", {}, symbol));
    meaning.textContent = isThere(state.map, state.view) ? explained : "This side has no such numbers.";
    for (const input of thumbs.querySelectorAll("input")) input.checked = input.value === state.map;
  }

  watch(["map", "view"], drawTitle);
  watch(["map", "view", "sorted"], large.draw);
  watch(["view", "theme"], drawThumbs);
  drawTitle();
  large.draw();
  drawThumbs();

  const text = BASE !== null && !SAME_SHAPE
    ? "The two models differ in layers or heads: they are shown one at a time, not as a difference."
    : null;
  return panel("heads", "Heads", text,
    element("div", { class: "beside" },
      element("div", { class: "large" }, element("div", { class: "map-head" },
        element("div", {}, title, meaning), tools), large.root, thumbs, table),
      headCard()));
}

/** The map as numbers, made when it is opened. */
function numbersTable() {
  const holder = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Numbers of the map" });
  const details = element("details", { class: "numbers" }, element("summary", {}, "The map as numbers"), holder);
  function fill() {
    if (!details.open || !isThere(state.map, state.view)) return;
    const { layers, heads, values } = gridOf(state.map, state.view);
    const head = element("tr", {}, element("th", { scope: "col" }, "layer"));
    for (let i = 0; i < heads; i += 1) head.append(element("th", { scope: "col" }, `head ${i}`));
    const body = element("tbody");
    for (let layer = 0; layer < layers; layer += 1) {
      const row = element("tr", {}, element("th", { scope: "row" }, String(layer)));
      for (let i = 0; i < heads; i += 1) row.append(element("td", {}, format(values[layer * heads + i])));
      body.append(row);
    }
    holder.replaceChildren(element("table", {}, element("thead", {}, head), body));
  }
  details.addEventListener("toggle", fill);
  watch(["map", "view"], fill);
  return details;
}
