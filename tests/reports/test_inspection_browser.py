"""The page of an inspection in a real browser: drawn, quiet, offline, usable by hand and by key."""

import re
import shutil

import pytest

from gibbsian.reports.inspection import inspection_page
from tests.reports.sample_inspection import EVIL, sample_inspection, smallest_inspection

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

pytestmark = pytest.mark.browser

LAYERS, HEADS = 6, 4
# WCAG 2.2, success criterion 1.4.3
CONTRAST = 4.5


@pytest.fixture(scope="module")
def browser():
    installed = shutil.which("chromium") or shutil.which("chromium-browser")
    # Chromium's sandbox needs kernel rights that a container often lacks; the page is our own.
    with sync_api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(
                executable_path=installed, args=["--no-sandbox"] if installed else []
            )
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open a page of these inspections; at the end nothing was logged and nothing requested."""
    noise, opened = [], []

    def open_page(inspection, baseline=None, *, width=1280, height=900, scheme="light"):
        file = tmp_path / f"report-{len(opened)}.html"
        file.write_text(inspection_page(inspection, baseline), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on(
            "request",
            lambda request: request.url == file.as_uri() or noise.append(request.url),
        )
        page.on("dialog", lambda dialog: noise.append(dialog.message))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert noise == []


def sample(**options):
    return sample_inspection(**{"layers": LAYERS, "heads": HEADS, "length": 400, **options})


def map_of(page):
    return page.locator("#heads .large .area")


def hover_head(page, layer, head):
    area = map_of(page)
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    place = {
        "x": box["width"] * (layer + 0.5) / LAYERS,
        "y": box["height"] * (head + 0.5) / HEADS,
    }
    area.hover(position=place)
    return place


def tip(page):
    locator = page.locator("#tip")
    return locator.inner_text() if locator.is_visible() else None


def test_every_panel_is_drawn(show):
    page = show(sample())
    sections = page.locator("main section").evaluate_all("all => all.map((one) => one.id)")
    assert sections == ["look", "heads", "distributions", "sparsity", "text", "about"]
    assert page.locator(".thumb").count() == 21  # the eigenvalue gap was not computed
    assert page.locator(".histogram").count() == 6
    assert page.locator(".t").count() == 400
    # a canvas that was drawn on has colours
    for selector in ("#heads .large .area .cells", ".thumb canvas", ".scatter canvas", ".overview"):
        page.locator(selector).first.scroll_into_view_if_needed()
        page.wait_for_timeout(50)
        colours = page.locator(selector).first.evaluate(
            """canvas => new Set(new Uint32Array(canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
        )
        assert colours > 3, selector


def test_a_panel_without_data_is_not_there(show):
    page = show(smallest_inspection())
    sections = page.locator("main section").evaluate_all("all => all.map((one) => one.id)")
    assert sections == ["heads", "about"]
    vision = show(sample(kind="vision"))
    assert vision.locator("#text").count() == 0
    assert vision.locator("#distributions").count() == 1


def test_hovering_a_head_shows_its_number(show):
    inspection = sample()
    inspection["maps"]["normalized_entropy"][3][2] = 0.4321
    inspection["maps"]["varentropy"][3][2] = 1.234
    page = show(inspection)
    hover_head(page, 3, 2)
    assert "Layer 3, head 2" in tip(page)
    assert "0.432" in tip(page)
    page.locator(".thumb", has_text="Varentropy").click()
    assert "Varentropy" in page.locator(".map-title").inner_text()
    hover_head(page, 3, 2)
    assert "1.23 nats²" in tip(page)
    page.mouse.move(2, 2)
    assert tip(page) is None


def test_a_map_is_read_and_used_by_keyboard(show):
    page = show(sample())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    area = map_of(page)
    for _ in range(40):
        page.keyboard.press("Tab")
        if area.evaluate("area => area === document.activeElement"):
            break
    assert "Layer 0, head 0" in tip(page)
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "End", "ArrowLeft"):
        page.keyboard.press(key)
    assert f"Layer {LAYERS - 2}, head 1" in tip(page)
    assert page.locator("#live").inner_text().startswith(f"Layer {LAYERS - 2}, head 1")
    page.keyboard.press("Enter")
    assert page.locator("#head-title").inner_text() == f"Layer {LAYERS - 2}, head 1"
    page.keyboard.press("Escape")
    assert page.locator("#head-title").inner_text() == "All heads"


def test_focus_can_be_seen(show):
    page = show(sample())
    for _ in range(12):
        page.keyboard.press("Tab")
        visible = page.evaluate(
            """() => {
              const shows = (node) => getComputedStyle(node).outlineStyle !== "none";
              const node = document.activeElement;
              return shows(node) || shows(node.nextElementSibling ?? node) || shows(node.closest("label") ?? node);
            }"""  # noqa: E501
        )
        assert visible, page.evaluate("document.activeElement.outerHTML")


def test_a_chosen_head_filters_the_other_panels(show):
    page = show(sample())
    paths = page.locator(".histogram").first.locator("path")
    assert paths.count() == 1
    place = hover_head(page, 4, 3)
    map_of(page).click(position=place)
    assert page.locator("#head-title").inner_text() == "Layer 4, head 3"
    assert paths.count() == 3
    assert "Layer 4, head 3" in page.locator("#distributions .keys").inner_text()
    assert page.locator("#sparsity").get_by_text("Layer 4, head 3").count() == 1
    assert page.locator("#sparsity .chosen:visible").count() == 2
    page.get_by_role("button", name="All heads").click()
    assert paths.count() == 1


def test_heads_can_be_ordered_by_value(show):
    inspection = sample()
    inspection["maps"]["normalized_entropy"][2] = [0.1, 0.4, 0.9, 0.2]
    page = show(inspection)
    page.get_by_role("radio", name="by value").check()
    hover_head(page, 2, 0)
    assert "Layer 2, head 2" in tip(page)
    hover_head(page, 2, 3)
    assert "Layer 2, head 0" in tip(page)


def test_a_histogram_tells_its_bins(show):
    page = show(sample())
    area = page.locator(".histogram .area").first
    area.hover()
    assert re.search(r"all heads\s+[\d.]+ %", tip(page))
    page.mouse.move(2, 2)
    area.focus()
    page.keyboard.press("ArrowRight")
    first = tip(page)
    page.keyboard.press("ArrowRight")
    assert tip(page) != first


def test_the_map_is_there_as_numbers_too(show):
    inspection = sample()
    inspection["maps"]["normalized_entropy"][5][1] = 0.8765
    inspection["maps"]["normalized_entropy"][5][2] = None
    page = show(inspection)
    page.get_by_text("The map as numbers").click()
    row = page.locator(".numbers tbody tr").nth(5)
    assert row.locator("td").nth(1).inner_text() == "0.876"
    assert row.locator("td").nth(2).inner_text() == "\N{EN DASH}"


def test_markup_in_a_token_is_text(show):
    page = show(sample(model=EVIL))
    token = page.locator(".t", has_text=EVIL)
    assert token.count() == 1
    assert token.evaluate("token => token.childElementCount") == 0
    token.hover()
    assert EVIL in tip(page)
    assert page.locator("h1").inner_text() == EVIL
    assert page.locator("script").count() == 2


def test_the_text_is_the_text(show):
    inspection = sample()
    page = show(inspection)
    written = page.locator(".text").evaluate("text => text.textContent")
    expected = "".join(token["text"] for token in inspection["tokens"])
    plain = {"\u202e": "⟨U+202E⟩", "\x00": "␀", "\u2028": "\n", "\ud83d": "\ufffd"}
    for mark, shown in plain.items():
        expected = expected.replace(mark, shown)
    assert written.replace("\ud83d", "\ufffd") == expected
    # line breaks are kept; blocks that are out of sight are laid out on paper only
    page.emulate_media(media="print")
    tops = page.locator(".t").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().top)"
    )
    breaks = [i for i, token in enumerate(inspection["tokens"]) if "\n" in token["text"]]
    assert all(tops[i + 1] > tops[i - 1] for i in breaks if i + 1 < len(tops))


def test_a_token_shows_its_numbers_and_alternatives(show):
    inspection = sample()
    inspection["tokens"][60].update(
        surprisal=3.21, entropy=1.5, varentropy=0.75, quadrant="low S, low V", text=" whale"
    )
    inspection["tokens"][60]["alternatives"] = [[" ship", 0.5], [" whale", 0.0403]]
    page = show(inspection)
    page.locator(".t").nth(60).hover()
    shown = tip(page)
    for words in ("␣whale", "token 60", "3.21 nats", "1.50 nats", "0.750 nats²", "low S, low V"):
        assert words in shown
    assert re.search(r"␣ship\s+50 %", shown)
    assert page.locator("#tip .came").inner_text().startswith("␣whale")


def test_the_text_is_read_by_keyboard(show):
    page = show(sample())
    page.locator(".text").focus()
    page.keyboard.press("Home")
    assert "token 0" in tip(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageDown")
    assert "token 51" in tip(page)
    assert "token 51" in page.locator("#live").inner_text()
    page.keyboard.press("End")
    assert "token 399" in tip(page)
    page.keyboard.press("Escape")
    assert tip(page) is None


def test_colours_follow_the_chosen_number(show):
    inspection = sample()
    for i, token in enumerate(inspection["tokens"]):
        token["surprisal"] = 10.0 if i == 70 else 1.0
        token["entropy"] = 1.0 if i == 70 else 5.0
    page = show(inspection)
    token = page.locator(".t").nth(70)
    colour = "token => getComputedStyle(token).backgroundColor"
    by_surprisal = token.evaluate(colour)
    page.get_by_role("radio", name="S", exact=True).check()
    assert token.evaluate(colour) != by_surprisal
    assert "b4" in token.get_attribute("class").split()  # 1 of 5 nats, in 20 levels


def test_colours_start_where_the_numbers_do(show):
    inspection = sample()
    for i, token in enumerate(inspection["tokens"]):
        token["attention_entropy"] = 3.0 + i / 400
    page = show(inspection)
    page.get_by_role("radio", name="Attention entropy").check()
    level = "token => Number(token.className.match(/ b(\\d+)/)[1])"
    levels = [page.locator(".t").nth(i).evaluate(level) for i in (0, 200, 399)]
    assert levels == [0, 10, 20]
    assert "≤ 3.0" in page.locator("#text .bar-ticks").first.inner_text()


def test_the_quadrants_filter_the_text(show):
    inspection = sample()
    high = sum(token["quadrant"] == "high S, high V" for token in inspection["tokens"])
    page = show(inspection)
    button = page.locator(".quadrant", has_text="high S, high V")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator(".quadrant[aria-pressed=true]").count() == 1
    assert page.locator(".position").inner_text() == f"{high} of 400 tokens"
    shown = page.locator(".t.q3").first.evaluate("token => getComputedStyle(token).color")
    left_out = page.locator(".t.q0").first.evaluate("token => getComputedStyle(token).color")
    assert shown != left_out
    page.get_by_role("button", name="next").click()
    assert "high S, high V" in tip(page)
    button.click()
    assert page.locator(".quadrant[aria-pressed=true]").count() == 4
    assert page.locator(".position").inner_text() == "400 of 400 tokens"


def test_a_finding_leads_to_its_place(show):
    page = show(sample())
    page.locator(".finding[data-map=sink_mass]").click()
    assert "first position" in page.locator(".map-title").inner_text()
    assert page.locator("#head-title").inner_text().startswith("Layer")
    page.locator(".finding[data-token]").click()
    assert "surprisal" in tip(page)
    assert page.locator(".t.here").count() == 1


def test_several_inputs_are_shown_one_at_a_time(show):
    page = show(sample(inputs=3))
    assert page.locator(".t").count() == 134
    page.get_by_label("Input").select_option("2")
    assert page.locator(".t").count() == 133
    page.locator(".t").nth(0).hover()
    assert "token 267" in tip(page)


def test_two_runs_are_compared(show):
    now, then = sample(), sample(seed=1, model="before")
    for token, other in zip(then["tokens"], now["tokens"], strict=True):
        token["text"] = other["text"]
    now["maps"]["normalized_entropy"][1][1] = 0.75
    then["maps"]["normalized_entropy"][1][1] = 0.25
    page = show(now, then)
    hover_head(page, 1, 1)
    shown = tip(page)
    assert re.search(r"this run\s+0\.750", shown)
    assert re.search(r"baseline\s+0\.250", shown)
    assert re.search(r"difference\s+\+0\.500", shown)
    images = []
    for side in ("Difference", "This run", "Baseline"):
        page.get_by_role("radio", name=side).check()
        cells = page.locator("#heads .large .area .cells")
        images.append(cells.evaluate("canvas => canvas.toDataURL()"))
    assert len(set(images)) == 3
    assert page.locator("#changes tbody tr").count() == 21
    page.locator(".moved button").first.click()
    assert page.locator("#head-title").inner_text().startswith("Layer")
    assert page.get_by_role("radio", name="Change of surprisal").is_checked()


def test_models_of_other_shapes_are_shown_side_after_side(show):
    page = show(sample(), sample(layers=3, heads=2, model="smaller"))
    assert page.get_by_role("radio", name="Difference").is_disabled()
    page.get_by_role("radio", name="Baseline").check()
    assert "3 layers of 2 heads" in map_of(page).get_attribute("aria-label")


LUMINANCE = """
(selector) => [...document.querySelectorAll(selector)].map((node) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const layers = [];
  for (let up = node; up; up = up.parentElement) {
    layers.unshift(getComputedStyle(up).backgroundColor);
  }
  for (const colour of layers) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
  const behind = context.getImageData(0, 0, 1, 1).data;
  context.fillStyle = getComputedStyle(node).color;
  context.fillRect(0, 0, 1, 1);
  const ink = context.getImageData(0, 0, 1, 1).data;
  const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const [light, dark] = [luminance(behind), luminance(ink)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
})
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_main_text_has_contrast(show, scheme):
    page = show(sample(), scheme=scheme)
    assert page.evaluate(LUMINANCE, "body")[0] > 10
    page.locator(".t").nth(30).hover()
    for selector in (
        *("h1", "h2", "h3", ".note", ".facts dt", ".finding span", "#toc a", ".plain", ".t"),
        *(".choices input:enabled + span", ".thumb-name", ".value", ".ticks span", ".rows dt"),
        *(".alternatives bdi", ".quadrant", "summary", ".key", ".symbol", ".bar-ticks span"),
    ):
        ratios = page.evaluate(LUMINANCE, selector)
        assert ratios, selector
        assert min(ratios) >= CONTRAST, selector
    page.get_by_role("radio", name="Quadrant").check()
    assert min(page.evaluate(LUMINANCE, ".t")) >= CONTRAST


def test_the_theme_is_the_system_s_until_chosen(show):
    page = show(sample(), scheme="dark")
    paper = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    button = page.locator("#theme")
    button.click()
    assert button.inner_text() == "Theme: light"
    light = page.evaluate(paper)
    assert light != dark
    button.click()
    assert page.evaluate(paper) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == dark
    button.click()
    assert page.evaluate(paper) == light


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_a_phone(show, width):
    page = show(sample(), sample(seed=1), width=width, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".t").nth(50).hover()
    box = page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_print_shows_the_whole_text_on_white(show):
    page = show(sample(), scheme="dark")
    page.emulate_media(media="print")
    assert page.locator(".text").evaluate("text => text.scrollHeight - text.clientHeight") <= 1
    assert not page.locator("#theme").is_visible()


def test_every_control_has_a_name(show):
    page = show(sample(), sample(seed=1))
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, [tabindex='0']")]
            .filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim()
              || node.closest("label")?.textContent.trim()))
            .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))


def test_a_long_text_stays_responsive(show):
    page = show(sample_inspection(length=8192))
    milliseconds = page.evaluate(
        """() => {
          const radios = [...document.querySelectorAll("#text .choices input")];
          const start = performance.now();
          for (const radio of radios) { radio.click(); document.body.offsetHeight; }
          return (performance.now() - start) / radios.length;
        }"""
    )
    # A colouring takes tens of milliseconds; a layout for each token would take many seconds.
    assert milliseconds < 1000
