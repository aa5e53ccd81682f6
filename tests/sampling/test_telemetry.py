"""Records say what the steps said, and survive their file."""

import json
import os

import pytest
import torch

from gibbsian._errors import ArgumentError, DataError
from gibbsian.sampling import Trace, policies, read_jsonl, start, step, write_jsonl
from tests.sampling.cases import rows


@pytest.fixture
def trace():
    policy = policies.Quadrant(insert_token=2)
    trace, state = Trace(policy), start(policy, 12, seed=0)
    for _ in range(3):
        result = step(rows(12, 300), state, policy=policy)
        state = result.state
        trace.append(result)
    return trace


def test_records(trace):
    texts = [[f"{row}.{k}" for k in range(3)] for row in range(12)]
    records = trace.records(texts)
    assert len(trace) == 3
    assert len(records) == 36
    results = trace._results
    for record in records:
        result = results[record.step]
        assert record.text == f"{record.row}.{record.step}"
        assert record.token == int(result.token[record.row])
        assert record.entropy == float(result.info.entropy[record.row])
        assert record.kept == int(result.info.kept[record.row])
        assert record.branch in policies.Quadrant.branches
    assert {record.action for record in records} >= {"greedy", "draw"}


def test_json_lines(trace, tmp_path):
    path = tmp_path / "trace.jsonl"
    write_jsonl(trace.records(), path)
    lines = path.read_text().splitlines()
    assert len(lines) == 36
    assert json.loads(lines[0])["step"] == 0
    assert read_jsonl(path) == trace.records()


def test_texts_with_separators_of_lines_survive(trace, tmp_path):
    separators = ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\r\n", "\n", "\u00e9")
    texts = [[separators[(row + k) % len(separators)] for k in range(3)] for row in range(12)]
    records = trace.records(texts)
    path = tmp_path / "trace.jsonl"
    write_jsonl(records, path)
    assert read_jsonl(path) == records
    # as other programs write them
    lines = [json.dumps(json.loads(x), ensure_ascii=False) for x in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_jsonl(path) == records


def test_no_records_are_an_empty_file(tmp_path):
    write_jsonl([], tmp_path / "trace.jsonl")
    assert read_jsonl(tmp_path / "trace.jsonl") == []


def test_a_failed_write_leaves_the_old_file(trace, tmp_path, monkeypatch):
    path = tmp_path / "trace.jsonl"
    write_jsonl(trace.records(), path)
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_jsonl([], path)
    assert read_jsonl(path) == trace.records()
    assert [p.name for p in tmp_path.iterdir()] == ["trace.jsonl"]


def test_numbers_that_json_does_not_know_are_null(tmp_path):
    policy = policies.Fixed()
    trace = Trace(policy)
    bad = torch.full((1, 5), torch.nan)
    trace.append(step(bad, start(policy, 1, seed=0), policy=policy, validate=False))
    write_jsonl(trace.records(), tmp_path / "trace.jsonl")
    line = json.loads((tmp_path / "trace.jsonl").read_text(), parse_constant=pytest.fail)
    assert line["entropy"] is None


def test_an_empty_trace():
    assert Trace(policies.Fixed()).records() == []


def test_bad_input(trace, tmp_path):
    with pytest.raises(ArgumentError, match=r"^`texts` must have 3 tokens"):
        trace.records([["a"]])
    with pytest.raises(DataError, match=r"^`path` must be a file of token records"):
        read_jsonl(tmp_path / "missing.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"row": 0}\n')
    with pytest.raises(DataError, match=r"another line 1"):
        read_jsonl(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"which is not in UTF-8") as raised:
        read_jsonl(tmp_path / "bad.jsonl")
    assert "\n" not in str(raised.value)
