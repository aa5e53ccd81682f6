"""The page of a generated text: whole, escaped, without script."""

import re
from html.parser import HTMLParser

import pytest

from gibbsian._errors import DataError
from gibbsian.reports.generation import QUADRANT_NAMES, generation_page

HOSTILE = "</span><script>alert(1)</script> & \"'"


def token(number, **changes):
    return {
        "row": 0,
        "step": number,
        "token": number,
        "text": f" word{number}",
        "entropy": 1.5 + number,
        "varentropy": 0.5,
        "temperature": 0.8,
        "zeta": 0.0,
        "kept": 7,
        "surprisal": 1.25,
        "action": "draw",
        "branch": "adaptive",
        "quadrant": tuple(QUADRANT_NAMES)[number % 5],
    } | changes


def generation(**changes):
    return {
        "schema": 1,
        "model": "org/model",
        "created": "2026-01-02T03:04:05+00:00",
        "versions": {"torch": "2"},
        "machine": {"processor": "some"},
        "prompt": "Once",
        "prompt_tokens": 1,
        "chat": False,
        "policy": {"name": "quadrant", "temperature": 0.666},
        "thresholds": {
            "unit": "nats",
            "entropy_low": 0.5,
            "entropy_high": 2.0,
            "varentropy_low": 0.25,
            "varentropy_high": 1.0,
        },
        "calibrated_on": "a text",
        "seed": 11,
        "stopped": "length",
        "seconds": 1.0,
        "text": "",
        "rest": "",
        "tokens": [token(i) for i in range(10)],
    } | changes


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.stack, self.classes, self.shown = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in {"meta", "link"}:
            self.stack.append(tag)
        self.classes.append(dict(attributes).get("class", ""))

    def handle_startendtag(self, tag, _attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack[-1:] != ["style"]:
            self.shown += data


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.stack == []
    return reader


def test_the_text_and_its_colours_are_on_the_page():
    page = generation_page(generation())
    reader = read(page)
    assert "Once word0 word1 word2" in reader.shown
    assert sum("t q3" in kind for kind in reader.classes) == 2
    assert reader.shown.count("low S, high V: 2") == 1
    assert 'title="flowing (draw): S 1.5, V 0.5' in page
    assert page.count("<svg") == 2


def test_actions_are_marked():
    kinds = read(generation_page(generation(tokens=[token(0, action="insert"), token(1)]))).classes
    assert sum(kind.endswith(" did") for kind in kinds) == 1


def test_hostile_texts_are_texts():
    tokens = [token(0, text=HOSTILE), token(1)]
    page = generation_page(generation(tokens=tokens, prompt=HOSTILE, model=HOSTILE))
    reader = read(page)
    assert "script" not in reader.tags
    assert reader.shown.count(HOSTILE) >= 3


def test_nothing_is_loaded():
    page = generation_page(generation())
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|url\(|@import", page)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_texts(count):
    read(generation_page(generation(tokens=[token(i) for i in range(count)])))


def test_numbers_that_are_none():
    nothing = dict.fromkeys(("entropy", "varentropy", "surprisal", "quadrant"))
    page = generation_page(generation(tokens=[token(0), token(1, **nothing), token(2)]))
    assert "nan" not in read(page).shown
    assert page.count("M0 ") >= 2
    assert re.search(r'd="M0 [\d.]+M2 ', page)


def test_something_else_is_refused():
    with pytest.raises(DataError, match="must be what `gibbsian generate --json` prints"):
        generation_page({"tokens": []})
