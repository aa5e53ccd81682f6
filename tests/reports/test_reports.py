import json
import re
from html.parser import HTMLParser

import pytest

from gibbsian.reports import COLUMNS, comparison_page, comparison_title, table_rows
from gibbsian.reports import page as page_module

EVIL = 'aes</script><script>alert("x")</script>&amp;'


def make_results(attentions=("softmax", "entmax:zeta=0.5"), seeds=(0, 1), layers=2):
    probe_layer = {"entropy": 1.0, "varentropy": 0.5, "zeta": 0.2, "support_fraction": 0.7}
    runs = [
        {
            "attention": attention,
            "seed": seed,
            "curve": {"step": [1, 2], "loss": [3.0, 2.0 + seed]},
            "probes": [
                {"step": step, "bits_per_byte": 4.0 - step, "layers": [probe_layer] * layers}
                for step in (0, 2)
            ],
        }
        for seed in seeds
        for attention in attentions
    ]
    row = {
        "seeds": list(seeds),
        "parameters": 12345.0,
        "validation_bits_per_byte": 2.3456,
        "validation_bits_per_byte_spread": 0.0123,
        "entropy": 1.234,
        "varentropy": 0.567,
        "zeta": 0.25,
        "support_fraction": 0.7654,
        "score_products": 1028.0,
        "value_products": 345.6,
        "step_seconds": 0.0456,
        "peak_memory_bytes": 45.6e6,
    }
    return {
        "config": {
            "model": "decoder",
            "layers": layers,
            "width": 32,
            "heads": 4,
            "context": 64,
            "steps": 2,
            "batch": 8,
            "seeds": list(seeds),
            "tokens": "byte",
        },
        "text": {"name": "A text", "bytes": 1000},
        "machine": {"processor": "a processor", "torch_threads": 1, "device": "cpu"},
        "versions": {"torch": "0"},
        "summary": [{"attention": attention} | row for attention in attentions],
        "runs": runs,
    }


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.text = []
        self.scripts = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        inside = self.tags[-1][0] if self.tags else ""
        (self.scripts if inside == "script" else self.text).append(data)


def figures(html):
    line = re.search(r"^const figures = (.*);$", html, flags=re.MULTILINE)
    return json.loads(line.group(1))


def test_cells():
    row = table_rows(make_results())[1]
    assert row == [
        "entmax:zeta=0.5",
        "2.346 ± 0.012",
        "1.23",
        "0.57",
        "0.250",
        "76.5 %",
        "1,028",
        "346",
        "46 ms",
        "46 MB",
        "12,345",
    ]
    assert len(row) == len(COLUMNS)


def test_absent_numbers_are_shown_as_such():
    results = make_results(seeds=(0,))
    for row in results["summary"]:
        row.update(validation_bits_per_byte_spread=None, zeta=None)
    assert table_rows(results)[0][1:5] == ["2.346", "1.23", "0.57", "-"]
    results["summary"][0]["validation_bits_per_byte"] = None
    assert table_rows(results)[0][1] == "not finite"


def test_title_says_what_is_compared():
    title = comparison_title(make_results())
    assert title.startswith("softmax / entmax:zeta=0.5: decoder of 2 layers, width 32, 4 heads")
    assert "2 steps of 8 windows, 2 seeds" in title


def test_page_needs_no_network():
    html = comparison_page(make_results())
    page = Page(html)
    addresses = [a.get(name) for _, a in page.tags for name in ("src", "href", "action", "data")]
    assert [address for address in addresses if address] == ["data:,"]
    assert not re.search(r"@import|url\(", html[: html.index("<body>")])
    assert html[: html.index("<body>")].count("<title>") == 1
    assert comparison_title(make_results()) in html


def test_page_holds_the_table_and_all_curves():
    results = make_results()
    html = comparison_page(results)
    page = Page(html)
    text = " ".join(page.text)
    for row in table_rows(results):
        assert all(cell in text for cell in row)
    drawn = figures(html)
    assert len(drawn) == 6
    assert [tag for tag, a in page.tags if a.get("class") == "figure"] == ["div"] * 6
    # a line a run; by layer, a line a run and layer
    assert [len(figure["data"]) for figure in drawn] == [4, 4, 8, 8, 8, 8]
    assert drawn[0]["data"][3]["y"] == [3.0, 3.0]
    assert drawn[1]["data"][0]["x"] == [0, 2]
    # seeds of an attention share colour and legend; attentions differ
    colours = [line["line"]["color"] for line in drawn[0]["data"]]
    assert colours[0] == colours[2] != colours[1] == colours[3]
    assert [line["showlegend"] for line in drawn[0]["data"]] == [True, True, False, False]


def test_every_text_is_escaped():
    results = make_results(attentions=(EVIL,))
    results["text"]["name"] = EVIL
    html = comparison_page(results)
    assert "<script>alert" not in html
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert EVIL in " ".join(page.text).replace("  ", " ") or EVIL in "".join(page.text)
    # Plotly reads markup in names: they are escaped once more
    name = figures(html)[0]["data"][0]["name"]
    assert "<" not in name
    assert "&lt;/script&gt;" in name


@pytest.mark.parametrize("layers", [1, 4, 5, 12])
def test_panels_do_not_overlap(layers):
    figure = figures(comparison_page(make_results(layers=layers)))[2]
    boxes = []
    for i in range(layers):
        suffix = str(i + 1) if i else ""
        x, y = (figure["layout"][f"{a}axis{suffix}"]["domain"] for a in "xy")
        assert 0 <= x[0] < x[1] <= 1
        assert 0 <= y[0] < y[1] <= 1
        assert all(x[1] <= u[0] or u[1] <= x[0] or y[1] <= v[0] or v[1] <= y[0] for u, v in boxes)
        boxes.append((x, y))
    headings = [note["text"] for note in figure["layout"]["annotations"]]
    assert headings == [f"layer {i + 1}" for i in range(layers)]


def test_data_cannot_end_their_script():
    written = page_module._script_json({"a": "</script><!--", "b": "\u2028"})
    assert "<" not in written
    assert json.loads(written) == {"a": "</script><!--", "b": "\u2028"}
