// The text, coloured. A span a token; colours are classes, and the quadrant filter is one class on
// the whole text, so that neither touches the layout.

const LEVELS = 20;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
const COLOURINGS = [
  { value: "surprisal", title: "Surprisal", unit: "nats" },
  { value: "entropy", title: "S", long: "Entropy of the prediction", unit: "nats" },
  { value: "varentropy", title: "V", long: "Varentropy of the prediction", unit: "nats²" },
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
    class: "text", id: "text-body", tabindex: "0", role: "region",
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
    const scale = numeric ? reach(values) : null;
    spans.forEach((span, k) => {
      const i = first + k;
      const text = tokenText(i);
      const quadrant = TOKENS.quadrant[i];
      let name = `t q${quadrant < 0 ? "x" : quadrant}`;
      if (text.includes("\n")) name += " nl";
      if (RIGHT_TO_LEFT.test(text)) name += " rtl";
      if (text.trim() === "" && !text.includes("\n")) name += text === "" ? " none" : " blank";
      const value = numeric && values ? values[i] : null;
      if (present(value)) name += ` b${Math.round(scale.at(value) * LEVELS)}${value < 0 ? " less" : ""}`;
      if (k === cursor) name += " here";
      span.className = name;
    });
    body.classList.toggle("by-quadrant", !numeric);
    const { unit, title: short, long: title = short } = COLOURINGS.find(({ value }) => value === state.colour);
    ramp.hidden = !numeric;
    const signed = state.colour === "change";
    if (numeric) ramp.replaceChildren(
      element("div", { class: signed ? "bar-colours ramp signed" : "bar-colours ramp" }),
      element("div", { class: "bar-ticks" },
        element("span", {}, signed ? `−${format(scale.high)} ${unit}: expected more` : (scale.low > 0 ? "≤ " : "") + format(scale.low)),
        signed ? null : element("span", {}, title),
        element("span", {}, signed ? `+${format(scale.high)} ${unit}: expected less` : `≥ ${format(scale.high)} ${unit}`)));
    strip.setAttribute("aria-label", `${title} along the text`);
    drawStrip();
  }

  /** From where to where the colour runs; nearly all tokens lie between. */
  function reach(values) {
    const sorted = (values ?? []).filter(present).map(Math.abs).sort((a, b) => a - b);
    const quantile = (q) => sorted[Math.floor(q * (sorted.length - 1))] ?? 0;
    const high = quantile(0.98) || 1;
    // from 0, unless that would leave most of the scale unused
    const low = state.colour !== "change" && quantile(0.02) > 0.3 * high && quantile(0.02) < high ? quantile(0.02) : 0;
    return { low, high, at: (value) => clamp((Math.abs(value) - low) / (high - low), 0, 1) };
  }

  /** Tokens of a part of the text, from 0 to 1, that the legend leaves on. */
  function part(from, to) {
    const start = clamp(Math.floor(from * spans.length), 0, spans.length - 1);
    const end = Math.max(start + 1, Math.floor(to * spans.length));
    return Array.from({ length: end - start }, (_, k) => first + start + k).filter(passes);
  }

  /** The text at a glance: the mean and, paler, the greatest value; or the share of each quadrant. */
  function drawStrip() {
    const context = strip.getContext("2d");
    const { width, height } = strip;
    context.clearRect(0, 0, width, height);
    const bars = Math.min(200, spans.length);
    const tones = [0, 1, 2, 3].map((q) => cssVariable(`--q${q}-strong`));
    const [more, less] = [cssVariable("--accent"), cssVariable("--cool-strong")];
    const values = columns[state.colour];
    const scale = reach(values);
    const bar = (at, from, to, colour, alpha) => {
      context.globalAlpha = alpha;
      context.fillStyle = colour;
      context.fillRect((at * width) / bars, height * (1 - to), width / bars - 1, height * (to - from));
    };
    for (let at = 0; at < bars; at += 1) {
      const found = part(at / bars, (at + 1) / bars);
      if (state.colour === "quadrant") {
        let from = 0;
        for (const q of [3, 2, 1, 0]) {
          const share = found.filter((i) => TOKENS.quadrant[i] === q).length / Math.max(1, found.length);
          bar(at, from, from + share, tones[q], 0.9);
          from += share;
        }
      } else {
        const numbers = found.map((i) => values?.[i]).filter(present);
        if (numbers.length === 0) continue;
        const most = numbers.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
        const average = mean(numbers);
        const tall = (value) => Math.max(0.02, scale.at(value));
        bar(at, 0, tall(most), most < 0 ? less : more, 0.25);
        bar(at, 0, tall(average), average < 0 ? less : more, 1);
      }
    }
    drawMark();
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
    if (!hasMoved(event)) return;
    const k = indices.get(event.target);
    if (k === undefined) hideTip();
    else show(k);
  });
  body.addEventListener("pointerleave", (event) => hasMoved(event) && hideTip());
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
    const values = state.colour === "quadrant" ? TOKENS.surprisal : columns[state.colour];
    const size = (i) => Math.abs(values?.[i] ?? 0);
    const found = part(place - 0.0025, place + 0.0025);
    if (found.length > 0) go(found.reduce((a, b) => (size(b) > size(a) ? b : a)) - first);
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
    body.focus({ preventScroll: true });
    go(event.detail - first);
  });

  return panel("text", "The text", null, tools,
    element("div", { class: quadrants ? "beside reading" : "" },
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
