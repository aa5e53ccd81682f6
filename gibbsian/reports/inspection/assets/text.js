// The text, coloured. A span a token; colours are classes, and the quadrant filter is one class on
// the whole text, so that neither touches the layout.

const LEVELS = 20;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
const COLOURINGS = [
  { value: "surprisal", title: "Surprisal", unit: "nats" },
  { value: "entropy", title: "S", unit: "nats" },
  { value: "varentropy", title: "V", unit: "nats²" },
  { value: "quadrant", title: "Quadrant", unit: "" },
  { value: "attention_entropy", title: "Attention entropy", unit: "nats" },
  { value: "change", title: "Change of surprisal", unit: "nats" },
];

function textPanel() {
  if (TOKENS === null) return null;
  const count = TOKENS.text.length;
  const quadrants = TOKENS.quadrant.some((q) => q >= 0);
  const change = BASE_TOKENS?.surprisal && TOKENS.surprisal
    ? TOKENS.surprisal.map((s, i) => (present(s) && present(BASE_TOKENS.surprisal[i]) ? s - BASE_TOKENS.surprisal[i] : null))
    : null;
  const columns = { ...TOKENS, change };
  const offered = COLOURINGS.filter(({ value }) => (value === "quadrant" ? quadrants : columns[value]));
  if (offered.length > 0) state.colour = (change ? "change" : null) ?? offered[0].value;

  const body = element("div", {
    class: "text", id: "text-body", tabindex: "0", role: "application", "aria-roledescription": "coloured text",
    "aria-label": "The text, one token after the other. Arrow keys move between tokens.", dir: "auto",
  });
  const ramp = element("div", { class: "colourbar slim" });
  const strip = element("canvas", { class: "overview", width: 1200, height: 56, role: "img" });
  const stripMark = element("div", { class: "overview-mark", hidden: true });
  const position = element("span", { class: "position", "aria-live": "polite" });
  let spans = []; // of the input that is shown
  let first = 0; // index of its first token
  let cursor = -1; // token under the keyboard, counted from `first`
  const indices = new Map();

  const passes = (i) => !state.hidden.has(TOKENS.quadrant[i]);

  function write() {
    const tokens = [];
    for (let i = 0; i < count; i += 1) if (TOKENS.input[i] === state.input) tokens.push(i);
    first = tokens[0] ?? 0;
    spans = [];
    cursor = -1;
    indices.clear();
    // Blocks end at line breaks, so that a block that is out of sight need not be laid out.
    const blocks = [];
    let block = element("div", { class: "block", dir: "auto" });
    let size = 0;
    for (const i of tokens) {
      const span = document.createElement("span");
      span.textContent = legible(tokenText(i));
      if (RIGHT_TO_LEFT.test(span.textContent)) block.classList.add("bidi");
      indices.set(span, spans.length);
      spans.push(span);
      block.append(span);
      size += 1;
      if (size >= 120 && tokenText(i).endsWith("\n")) {
        blocks.push(block);
        block = element("div", { class: "block", dir: "auto" });
        size = 0;
      }
    }
    body.replaceChildren(...blocks, block);
    paint();
  }

  function paint() {
    const values = columns[state.colour];
    const numeric = state.colour !== "quadrant";
    const high = numeric ? reach(values) : 1;
    spans.forEach((span, k) => {
      const i = first + k;
      const text = tokenText(i);
      const quadrant = TOKENS.quadrant[i];
      let name = `t q${quadrant < 0 ? "x" : quadrant}`;
      if (text.includes("\n")) name += " nl";
      if (RIGHT_TO_LEFT.test(text)) name += " rtl";
      if (text.trim() === "" && !text.includes("\n")) name += text === "" ? " none" : " blank";
      const value = numeric && values ? values[i] : null;
      if (present(value)) name += ` b${Math.round(clamp(Math.abs(value) / high, 0, 1) * LEVELS)}${value < 0 ? " less" : ""}`;
      if (k === cursor) name += " here";
      span.className = name;
    });
    body.classList.toggle("by-quadrant", !numeric);
    const { unit, title } = COLOURINGS.find(({ value }) => value === state.colour);
    ramp.hidden = !numeric;
    const signed = state.colour === "change";
    ramp.replaceChildren(
      element("div", { class: signed ? "bar-colours ramp signed" : "bar-colours ramp" }),
      element("div", { class: "bar-ticks" },
        element("span", {}, signed ? `−${format(high)} ${unit}: expected more` : "0"),
        element("span", {}, signed ? `+${format(high)} ${unit}: expected less` : `${format(high)} ${unit} or more`)));
    strip.setAttribute("aria-label", `${title} along the text`);
    drawStrip();
  }

  /** The value at which the colour is full: nearly all tokens stay below it. */
  function reach(values) {
    const sorted = (values ?? []).filter(present).map(Math.abs).sort((a, b) => a - b);
    return sorted[Math.floor(0.98 * (sorted.length - 1))] || 1;
  }

  function drawStrip() {
    const context = strip.getContext("2d");
    const { width, height } = strip;
    const numeric = state.colour !== "quadrant";
    const values = numeric ? columns[state.colour] : TOKENS.quadrant;
    const high = numeric ? reach(values) : 3;
    const tones = ["--q0-strong", "--q1-strong", "--q2-strong", "--q3-strong"].map(cssVariable);
    const [more, less] = [cssVariable("--accent"), cssVariable("--cool-strong")];
    context.clearRect(0, 0, width, height);
    const columnsShown = Math.min(width / 2, spans.length);
    const wide = width / columnsShown;
    for (let column = 0; column < columnsShown; column += 1) {
      const best = strongest(column / columnsShown, (column + 1) / columnsShown, values);
      if (best < 0) continue;
      const value = values[best];
      const tall = (0.08 + 0.92 * clamp(Math.abs(numeric ? value : value + 1) / (numeric ? high : 4), 0, 1)) * height;
      context.fillStyle = numeric ? (value < 0 ? less : more) : tones[value];
      context.fillRect(column * wide, height - tall, Math.max(1, wide - 0.6), tall);
    }
    stripMark.hidden = cursor < 0;
    stripMark.style.left = `${(100 * (cursor + 0.5)) / spans.length}%`;
  }

  /** The token with the greatest value in a part of the text, among those that are shown. */
  function strongest(from, to, values) {
    let best = -1;
    const start = Math.floor(from * spans.length);
    const end = Math.max(start + 1, Math.floor(to * spans.length));
    for (let k = start; k < Math.min(end, spans.length); k += 1) {
      const value = values?.[first + k];
      if (!present(value) || !passes(first + k) || (state.colour === "quadrant" && value < 0)) continue;
      if (best < 0 || Math.abs(value) > Math.abs(values[best])) best = first + k;
    }
    return best;
  }

  function show(k) {
    const span = spans[k];
    const i = first + k;
    showTip(span.getClientRects()[0] ?? span.getBoundingClientRect(), tokenCard(i));
    return `${named(tokenText(i))}, token ${i}` + (present(TOKENS.surprisal?.[i]) ? `, surprisal ${format(TOKENS.surprisal[i])} nats` : "");
  }

  function go(k) {
    if (spans.length === 0) return;
    spans[cursor]?.classList.remove("here");
    cursor = clamp(k, 0, spans.length - 1);
    const span = spans[cursor];
    span.classList.add("here");
    span.scrollIntoView({ block: "nearest", behavior: "instant" });
    drawMark();
    announce(show(cursor));
  }

  function drawMark() {
    stripMark.hidden = cursor < 0;
    stripMark.style.left = `${(100 * (cursor + 0.5)) / spans.length}%`;
  }

  /** The next token, in this direction, that the legend leaves on. */
  function step(direction) {
    for (let k = cursor + direction; k >= 0 && k < spans.length; k += direction) {
      if (passes(first + k)) return go(k);
    }
    return undefined;
  }

  body.addEventListener("pointerover", (event) => {
    const k = indices.get(event.target);
    if (k === undefined) hideTip();
    else show(k);
  });
  body.addEventListener("pointerleave", hideTip);
  body.addEventListener("scroll", () => {
    if (!body.matches(":focus-visible")) hideTip();
  }, { passive: true });
  body.addEventListener("click", (event) => {
    const k = indices.get(event.target);
    if (k !== undefined && document.getSelection().isCollapsed) go(k);
  });
  body.addEventListener("focus", () => {
    if (body.matches(":focus-visible")) go(Math.max(cursor, 0));
  });
  body.addEventListener("blur", hideTip);
  body.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 12, ArrowUp: -12, PageDown: 50, PageUp: -50, Home: -Infinity, End: Infinity };
    if (event.key in moves) go(cursor + moves[event.key]);
    else if (event.key === "n") step(1);
    else if (event.key === "p") step(-1);
    else return;
    event.preventDefault();
  });
  strip.addEventListener("click", (event) => {
    const box = strip.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width;
    const values = state.colour === "quadrant" ? TOKENS.quadrant : columns[state.colour];
    const best = strongest(place - 0.004, place + 0.004, values);
    go((best < 0 ? Math.floor(place * spans.length) + first : best) - first);
  });

  const tools = element("div", { class: "tools" });
  if (offered.length > 1) tools.append(choices("Colour", offered, state.colour, (colour) => update({ colour })));
  if (MAIN.inputs.length > 1) {
    const select = element("select", { change: () => update({ input: Number(select.value) }) });
    const used = new Set(TOKENS.input);
    MAIN.inputs.forEach((input, i) => {
      if (used.has(i)) select.append(element("option", { value: i }, input.name));
    });
    state.input = Number(select.value);
    tools.append(element("label", { class: "select" }, "Input ", select));
  }
  const steps = element("div", { class: "steps", role: "group", "aria-label": "Shown tokens" },
    element("button", { type: "button", class: "plain", click: () => step(-1) }, "← previous"),
    position,
    element("button", { type: "button", class: "plain", click: () => step(1) }, "next →"));

  function drawFilter() {
    for (const q of [0, 1, 2, 3]) body.classList.toggle(`n${q}`, state.hidden.has(q));
    body.classList.toggle("nx", state.hidden.has(-1));
    const left = spans.filter((_, k) => passes(first + k)).length;
    position.textContent = `${left.toLocaleString("en")} of ${spans.length.toLocaleString("en")} tokens`;
    drawStrip();
  }

  watch(["colour"], paint);
  watch(["theme"], drawStrip);
  watch(["input"], () => {
    hideTip();
    write();
    drawFilter();
  });
  watch(["hidden"], drawFilter);
  write();
  drawFilter();
  // A finding may lead to a token.
  document.addEventListener("token", (event) => {
    if (TOKENS.input[event.detail] !== state.input) {
      update({ input: TOKENS.input[event.detail] });
      const select = tools.querySelector("select");
      if (select) select.value = String(state.input);
    }
    go(event.detail - first);
    body.focus();
  });

  return panel("text", "The text", null, tools,
    element("div", { class: "beside reading" },
      element("div", {}, ramp, body, element("div", { class: "strip-holder" }, strip, stripMark), steps),
      quadrants ? quadrantCard() : null));
}

/** Counts of the quadrants, which are also the filter, and where each token lies. */
function quadrantCard() {
  const count = TOKENS.text.length;
  const legend = element("div", { class: "quadrants", role: "group", "aria-label": "Quadrants shown" });
  const buttons = DATA.quadrants.map((name, q) => {
    const many = TOKENS.quadrant.filter((found) => found === q).length;
    const button = element("button", {
      type: "button", class: `quadrant q${q}`, "aria-pressed": "true",
      click: () => toggle(q),
    }, element("span", { class: "swatch" }), element("span", {}, name), element("span", { class: "value" }, percent(many / count)));
    legend.append(button);
    return button;
  });

  /** From all of them, the first click keeps one; a click on the last one left brings all back. */
  function toggle(q) {
    const every = [0, 1, 2, 3];
    const hidden = new Set(state.hidden);
    if (hidden.size === 0) for (const other of [-1, ...every]) hidden.add(other);
    if (hidden.has(q)) hidden.delete(q);
    else hidden.add(q);
    const none = every.every((other) => hidden.has(other));
    const all = every.every((other) => !hidden.has(other));
    update({ hidden: none || all ? new Set() : hidden });
  }

  watch(["hidden"], () => {
    buttons.forEach((button, q) => button.setAttribute("aria-pressed", String(!state.hidden.has(q))));
    plot?.draw();
  });
  const both = TOKENS.entropy && TOKENS.varentropy;
  const thresholds = MAIN.thresholds ?? {};
  const plot = both ? scatter({
    points: { x: TOKENS.entropy, y: TOKENS.varentropy },
    lines: { x: thresholds.entropy, y: thresholds.varentropy },
    labels: { x: "S of the prediction (nats)", y: "V (nats²)" },
    summary: `Entropy and varentropy of the predictions of ${count} tokens.`,
    style: (i, front) => {
      const q = TOKENS.quadrant[i];
      return front || q < 0 || state.hidden.has(q) ? null : cssVariable(`--q${q}-strong`);
    },
    tell: tokenCard,
    pick: (i) => document.dispatchEvent(new CustomEvent("token", { detail: i })),
  }) : null;
  return element("aside", { class: "card" }, element("h3", {}, "Quadrants"),
    element("p", { class: "note" }, "How open the model's prediction was (S), and how uneven (V). Choose one to see it alone."),
    legend, plot?.root,
    usable(thresholds.entropy) ? element("p", { class: "note" },
      `Parted at S = ${format(thresholds.entropy)}, V = ${format(thresholds.varentropy)}${thresholds.how ? ` (${thresholds.how})` : ""}.`) : null);
}
