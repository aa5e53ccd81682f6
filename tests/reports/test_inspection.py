"""The page of an inspection as text: what is in it, what is refused, what cannot get out of it."""

import base64
import hashlib
import json
import math
import re
from copy import deepcopy
from html.parser import HTMLParser
from importlib import resources

import pytest

from gibbsian import _errors
from gibbsian.reports.inspection import inspection_page
from gibbsian.reports.inspection.compact import compacted
from gibbsian.reports.inspection.findings import find
from gibbsian.reports.inspection.page import script_json
from gibbsian.reports.inspection.quantities import QUANTITIES, described
from tests.reports.sample_inspection import EVIL, STRANGE, sample_inspection, smallest_inspection


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.inside = ""
        self.scripts = []
        self.style = ""
        self.text = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside if tag != self.inside else ""

    def handle_data(self, data):
        # the parser may hand over one script in several pieces
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside == "style":
            self.style += data
        else:
            self.text.append(data)

    def attributes(self, *names):
        return [a[name] for _, a in self.tags for name in names if a.get(name)]


def small(**options):
    return sample_inspection(**{"layers": 3, "heads": 2, "length": 64, **options})


def data_of(html):
    return json.loads(Page(html).scripts[0])


def test_the_page_needs_no_network():
    html = inspection_page(small(), small(seed=1))
    page = Page(html)
    targets = page.attributes("src", "href", "action", "data", "srcset", "poster", "formaction")
    assert all(target.startswith("#") or target == "data:," for target in targets)
    assert not re.search(r"@import|url\(", page.style)
    assert not re.search(
        r"fetch\(|XMLHttp|import\(|WebSocket|sendBeacon|new Image", page.scripts[1]
    )
    # no address either, but the name of the drawing language
    addresses = re.findall(r"https?://[^\"'\s]+", html)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}


def test_the_policy_allows_the_page_s_own_script_and_style_only():
    page = Page(inspection_page(small()))
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv")]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for name, content in (("script-src", page.scripts[1]), ("style-src", page.style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"


def test_every_text_is_escaped():
    inspection = small(model=EVIL)
    inspection["inputs"][0]["name"] = EVIL
    inspection["command"] = EVIL
    inspection["thresholds"]["how"] = EVIL
    inspection["maps"][EVIL] = [[0.0, 1.0]] * 3
    inspection["tokens"][5]["surprisal"] = 99.0
    inspection["tokens"][5]["text"] = EVIL
    html = inspection_page(inspection, {**small(seed=1), "model": EVIL})
    assert EVIL not in html
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert any(EVIL in text for text in page.text)
    assert data_of(html)["main"]["model"] == EVIL


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("/models/a-folder/", "a-folder"),
        ("./runs/b", "b"),
        ("/runs/b/checkpoint-100", "b/checkpoint-100"),
        ("owner/name", "owner/name"),
    ],
)
def test_a_folder_is_called_by_its_last_name(model, shown):
    html = inspection_page({**smallest_inspection(), "model": model})
    assert f"<h1><bdi>{shown}</bdi></h1>" in html


def test_tokens_arrive_as_they_are():
    html = inspection_page(small())
    html.encode()  # no lone surrogate is left
    tokens = data_of(html)["main"]["tokens"]
    texts = [tokens["words"][word] for word in tokens["text"]]
    assert texts[3 : 3 + len(STRANGE)] == list(STRANGE)
    assert tokens["surprisal"][0] is None


def test_data_cannot_end_their_script():
    content = {"a": "</script><!--&gt;", "b": "\u2028\u2029", "c": "\ud83d", "d": "שלום"}
    written = script_json(content)
    assert not re.search("[<>&\u2028\u2029\ud83d]", written)
    assert json.loads(written) == content


def test_numbers_are_written_with_four_digits_and_words_once():
    inspection = small()
    inspection["maps"]["entropy"][1][1] = 1.23456789
    inspection["maps"]["entropy"][0][0] = None
    inspection["maps"]["eigenvalue_gap"] = [[None, None]] * 3
    compact = compacted(inspection)
    assert compact["maps"]["entropy"][0] is None
    assert compact["maps"]["entropy"][3] == 1.235
    assert "eigenvalue_gap" not in compact["maps"]
    assert len(set(compact["tokens"]["words"])) == len(compact["tokens"]["words"])


def test_a_long_text_makes_no_large_page():
    html = inspection_page(sample_inspection(length=8192))
    assert len(html.encode()) < 2e6


def test_only_what_is_there_is_on_the_page():
    html = inspection_page(smallest_inspection())
    data = data_of(html)
    assert data["main"]["tokens"] is None
    assert data["main"]["histograms"] == {}
    assert data["main"]["points"] is None
    assert data["baseline"] is None
    assert "Varentropy" not in html[: html.index("<script")]


def test_what_stands_out_is_said_first():
    inspection = small()
    inspection["maps"]["normalized_entropy"] = [[0.9, 0.8], [0.5, 0.01], [0.3, 0.4]]
    inspection["maps"]["sink_mass"] = [[0.1, 0.2], [0.3, 0.7], [0.98, 0.2]]
    inspection["maps"]["zeta"] = [[0.0, 0.1], [0.2, 0.9], [0.3, 0.04]]
    inspection["maps"]["support_size"] = [[9.0, 9.0], [9.0, 2.5], [9.0, 9.0]]
    inspection["tokens"][30].update(text=" whale", surprisal=44.0)
    found = {finding.title: finding for finding in find(inspection)}
    assert "widest in layer 0" in found["Depth"].text
    assert "concentrated in layer 1" in found["Depth"].text
    assert found["Sinks"].text.startswith("2 of 6 heads give")
    assert found["Sinks"].head == (2, 0)
    assert "98%" in found["Sinks"].text
    assert found["Nearly one key"].head == (1, 1)
    assert "layer 1, head 1" in found["Sparsity"].text
    assert "2.5 keys" in found["Sparsity"].text
    assert "2 of 6 heads dense" in found["Sparsity"].text
    assert found["Text"].token == 30
    assert "“whale” at 44.0 nats" in found["Text"].text
    for finding in found.values():
        assert finding.title in inspection_page(inspection)


def test_prediction_counts_rows_within_a_factor_of_two():
    inspection = smallest_inspection()
    inspection["support_points"] = {
        "layer": [0] * 5,
        "head": [0] * 5,
        "zeta": [0.05, 0.05, 0.5, 0.5, 0.05],
        "measured": [4.0, 4.0, 4.0, 4.0, None],
        "predicted": [2.0, 8.0, 1.9, 4.0, 4.0],
    }
    (finding,) = find(inspection)
    assert "75% of the sampled rows" in finding.text
    assert "100% of those with ζ below 0.1" in finding.text


def test_a_change_is_told_against_the_baseline():
    now, then = small(), small()
    then["maps"]["normalized_entropy"][2][1] = now["maps"]["normalized_entropy"][2][1] + 0.9
    first = find(now, then)[0]
    assert first.title == "Change"
    assert first.head == (2, 1)
    # other shapes cannot be compared head by head, but both are shown
    other = small(layers=4)
    assert find(now, other)[0].title != "Change"
    assert data_of(inspection_page(now, other))["baseline"]["layers"] == 4


def test_no_change_is_told_as_none():
    now, then = small(), small()
    then["maps"]["normalized_entropy"][2][1] += 5e-7
    text = "Against the baseline, no difference in S / log n"
    assert find(now, then)[0].text == text + "."
    then["maps"]["sink_mass"][0][0] += 0.1
    assert find(now, then)[0].text == text + ", but in other maps (sink mass)."
    then["maps"]["normalized_entropy"][2][1] += 2e-6
    assert "layer 2, head 1" in find(now, then)[0].text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": [{"name": "other.txt", "length": 64}]}, "The inputs differ"),
        ({"inputs": [{"name": "a-novel-0.txt", "length": 32}]}, "The inputs differ"),
        ({"schedule": {"name": "linear", "low": 0.4}}, "The schedules differ"),
        ({"inputs": [], "schedule": {}}, "The inputs and the schedules differ"),
    ],
)
def test_other_inputs_or_schedules_are_told_apart_from_the_model(change, words):
    now = small(length=64)
    assert "differ: " not in find(now, now)[0].text
    told = find(now, now | change)[0].text
    assert told.endswith(f" {words}: a difference is not the model's alone.")


def test_the_head_names_what_the_baseline_read():
    other = {
        "inputs": [{"name": "other.txt", "length": 77}],
        "schedule": {"name": "linear", "low": 0.4},
    }
    html = inspection_page(small(), small(model="before") | other)
    assert "<dt>Baseline</dt><dd><bdi>before; other.txt, 77 tokens; linear (low 0.4)</bdi>" in html


def test_a_constant_schedule_makes_no_head_the_sparsest():
    inspection = small()
    assert "Sparsity" in {finding.title for finding in find(inspection)}
    inspection["schedule"] = {"name": "constant", "zeta": 0.5}
    assert "Sparsity" not in {finding.title for finding in find(inspection)}


def test_absent_heads_are_let_pass():
    inspection = small()
    for rows in inspection["maps"].values():
        rows[1][1] = None
    inspection["histograms"]["entropy"]["counts"][1][1] = None
    compact = data_of(inspection_page(inspection))["main"]
    assert compact["maps"]["entropy"][3] is None
    assert compact["histograms"]["entropy"]["counts"][3] is None


def broken(path, value):
    inspection = deepcopy(small())
    *way, last = path
    place = inspection
    for step in way:
        place = place[step]
    place[last] = value
    return inspection


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["schema"], 2, "`schema`"),
        (["model"], None, "`model`"),
        (["kind"], "audio", "`kind`"),
        (["layers"], True, "`layers`"),
        (["heads"], 0, "`heads`"),
        (["inputs"], [], "`inputs`"),
        (["inputs", 0], "text", "`inputs[0]`"),
        (["maps"], {}, "`maps`"),
        (["maps", "entropy"], [[1.0, 2.0]], "shape (1, 2)"),
        (["maps", "entropy"], 3, "`maps.entropy`"),
        (["maps", "entropy", 1], [1.0], "`maps.entropy`"),
        (["maps", "entropy", 1, 0], math.nan, "`maps.entropy[1][0]`"),
        (["maps", "entropy", 1, 0], "much", "`maps.entropy[1][0]`"),
        (["histograms", "zeta"], [1], "`histograms.zeta`"),
        (["histograms", "zeta", "edges"], [0, 0], "`histograms.zeta.edges`"),
        (["histograms", "zeta", "counts", 0, 1], [1, 2], "`histograms.zeta.counts[0][1]`"),
        (["support_points", "zeta"], [0.5], "`support_points.zeta`"),
        (["support_points", "layer", 3], 9, "`support_points.layer[3]`"),
        (["tokens"], "text", "`tokens`"),
        (["tokens", 7], "text", "`tokens[7]`"),
        (["tokens", 7, "entropy"], math.inf, "`tokens[7].entropy`"),
        (["tokens", 7, "input"], 5, "`tokens[7].input`"),
        (["tokens", 7, "quadrant"], 3, "`tokens[7].quadrant`"),
        (["tokens", 7, "alternatives"], [["a"]], "`tokens[7].alternatives`"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(path, value, words):
    with pytest.raises(_errors.DataError) as caught:
        inspection_page(broken(path, value))
    message = str(caught.value)
    assert words in message
    assert "inspection" in message
    assert "gibbsian inspect" in message
    assert "\n" not in message
    with pytest.raises(_errors.DataError, match="of the baseline"):
        inspection_page(small(), broken(path, value))


def test_every_quantity_is_described():
    assert set(sample_inspection()["maps"]) == {quantity.name for quantity in QUANTITIES}
    assert all(q.title and q.symbol and q.meaning for q in QUANTITIES)
    stranger = described({"entropy", "new_thing"})[-1]
    assert stranger["title"] == "New thing"


def test_no_script_writes_markup():
    assets = resources.files("gibbsian.reports.inspection") / "assets"
    for asset in assets.iterdir():
        if asset.name.endswith(".js"):
            source = re.sub(r"//.*", "", asset.read_text(encoding="utf-8"))
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source
            )


def test_every_asset_is_on_the_page():
    html = inspection_page(small())
    assets = resources.files("gibbsian.reports.inspection") / "assets"
    for asset in assets.iterdir():
        if not asset.name.endswith(".html"):
            assert asset.read_text(encoding="utf-8") in html, asset.name
