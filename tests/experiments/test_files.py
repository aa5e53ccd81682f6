import json

from gibbsian.experiments.files import (
    append_record,
    read_records,
    rewind_records,
    write_json,
)


def test_json_has_no_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": float("nan"), "b": [float("-inf"), 1.5], "c": (1, "x")})
    assert json.loads(path.read_text()) == {"a": None, "b": [None, 1.5], "c": [1, "x"]}


def test_records_survive_a_cut_line_and_rewind(tmp_path):
    path = tmp_path / "r.jsonl"
    assert read_records(path) == []
    for step in (1, 2, 3):
        append_record(path, {"step": step, "loss": 0.1 * step})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [record["step"] for record in read_records(path)] == [1, 2, 3]
    rewind_records(path, 2)
    append_record(path, {"step": 3, "loss": float("nan")})
    assert read_records(path) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 0.2},
        {"step": 3, "loss": None},
    ]
