// Tokens of the text, and how each of their characters is made visible.

const TOKENS = MAIN.tokens;
// The baseline's numbers are of use where it read the same tokens.
const BASE_TOKENS = sameTokens() ? BASE.tokens : null;

function sameTokens() {
  if (TOKENS === null || BASE === null || BASE.tokens === null) return false;
  const [now, then] = [TOKENS, BASE.tokens];
  return now.text.length === then.text.length &&
    now.text.every((word, i) => now.words[word] === then.words[then.text[i]]);
}

const tokenText = (i) => TOKENS.words[TOKENS.text[i]];

// Marks that would reorder the text around them are written out instead of obeyed.
const DIRECTIONS = /[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

function legible(text) {
  return text
    .replace(DIRECTIONS, (mark) => `⟨U+${mark.charCodeAt(0).toString(16).toUpperCase()}⟩`)
    // eslint-disable-next-line no-control-regex
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, (mark) => String.fromCharCode(mark === "\u007f" ? 0x2421 : 0x2400 + mark.charCodeAt(0)))
    .replace(/[\u2028\u2029]/g, "\n");
}

/** A token on one line, with its white space to be seen. */
function named(text) {
  if (text === "") return "(empty)";
  return legible(text).replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
}

function tokenCard(i) {
  const rows = [];
  const add = (key, label, unit) => {
    if (!TOKENS[key] || !present(TOKENS[key][i])) return;
    const before = BASE_TOKENS !== null && BASE_TOKENS[key] ? BASE_TOKENS[key][i] : null;
    const change = present(before) ? ` (was ${format(before)})` : "";
    rows.push([label, `${format(TOKENS[key][i])} ${unit}${change}`]);
  };
  add("surprisal", "surprisal", "nats");
  if (TOKENS.surprisal && present(TOKENS.surprisal[i])) rows.push(["probability", percent(Math.exp(-TOKENS.surprisal[i]))]);
  add("entropy", "S of the prediction", "nats");
  add("varentropy", "V of the prediction", "nats²");
  if (TOKENS.quadrant[i] >= 0) rows.push(["quadrant", DATA.quadrants[TOKENS.quadrant[i]]]);
  add("attention_entropy", "attention entropy", "nats");
  const card = [
    element("strong", { class: "token-name" }, element("bdi", {}, named(tokenText(i)))),
    element("p", {}, `token ${i.toLocaleString("en")}`),
    facts(rows),
  ];
  const others = TOKENS.alternatives?.[i] ?? [];
  if (others.length > 0) {
    const list = element("ol", { class: "alternatives" });
    for (let k = 0; k < others.length; k += 2) {
      const text = TOKENS.words[others[k]];
      list.append(element("li", { class: text === tokenText(i) ? "came" : "", "--share": `${(100 * others[k + 1]).toFixed(1)}%` },
        element("bdi", {}, named(text)), element("span", {}, percent(others[k + 1]))));
    }
    card.push(element("p", { class: "eyebrow" }, "What the model expected"), list);
  }
  return card;
}
