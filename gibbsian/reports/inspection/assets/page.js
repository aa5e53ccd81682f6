// Puts the panels on the page. A panel without data gives null, and is not there.

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = `Theme: ${theme}`;
  update({ theme });
}

function start() {
  const panels = [mapsPanel(), changesPanel(), histogramsPanel(), responsePanel(), textPanel()].filter(Boolean);
  document.getElementById("panels").append(...panels);

  const toc = document.getElementById("toc");
  for (const section of [...panels, document.getElementById("about")]) {
    toc.append(element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
  }
  toc.hidden = false;

  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const order = ["system", "light", "dark"];
    setTheme(order[(order.indexOf(state.theme) + 1) % order.length]);
  });

  for (const finding of document.querySelectorAll(".finding")) {
    finding.addEventListener("click", () => {
      const { map, head, token } = finding.dataset;
      const patch = {};
      if (map !== undefined && QUANTITIES.has(map)) patch.map = map;
      if (head !== undefined) patch.head = head.split(".").map(Number);
      update(patch);
      const goal = document.getElementById(token === undefined ? "heads" : "text");
      goal?.scrollIntoView({ behavior: calm.matches || token !== undefined ? "instant" : "smooth", block: "start" });
      if (token !== undefined) document.dispatchEvent(new CustomEvent("token", { detail: Number(token) }));
    });
  }

  document.addEventListener("pointermove", hasMoved, { passive: true });

  // A page may be printed from the dark: ink on paper is light.
  let before = state.theme;
  window.addEventListener("beforeprint", () => {
    before = state.theme;
    setTheme("light");
  });
  window.addEventListener("afterprint", () => setTheme(before));
  document.documentElement.dataset.ready = "";
}

start();
