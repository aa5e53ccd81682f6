"""The whole study on a tiny random model; a run that was killed goes on to the same result."""

import json
from itertools import pairwise

import pytest

from gibbsian._errors import DataError
from gibbsian.experiments.studies.decoding import novel
from gibbsian.experiments.studies.decoding.cells import Cells
from gibbsian.experiments.studies.decoding.inference import weights
from gibbsian.experiments.studies.decoding.methods import BASELINES, ENTROPIC, METHODS
from gibbsian.experiments.studies.decoding.ngrams import KneserNey
from gibbsian.experiments.studies.decoding.run import Plan, chosen, realised, run
from gibbsian.experiments.studies.decoding.scores import scores_of
from gibbsian.experiments.studies.decoding.subjects import TaskSubject, TextSubject
from gibbsian.experiments.studies.decoding.summary import gathered, summary
from gibbsian.experiments.studies.decoding.tasks import Problem
from gibbsian.experiments.studies.decoding.writer import Writer
from gibbsian.sampling.policies import Fixed, Quadrant
from tests.experiments.inspection import small_models as small

PLAN = Plan(seeds=2)
LENGTH = 24
TEXT = " ".join(f"The square of {i} is {i * i}, and it is a truth." for i in range(80))


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    folder = small.llama(tmp_path_factory.mktemp("models") / "llama", eos_token_id=None)
    return Writer(folder)


@pytest.fixture(scope="module")
def subjects(writer):
    problems = [Problem(question=f"{i} + 1 = ", answer=str(i % 10)) for i in range(12)]
    task = TaskSubject(
        name="sums",
        tuning=problems[:8],
        test=problems[8:],
        chat=[problem.question for problem in problems],
        length=LENGTH,
        block=2,
    )
    tokenizer = writer.tokenizer
    tuning, test = novel.openings(tokenizer, 5, 2, LENGTH, TEXT)
    judge = KneserNey([tokenizer(TEXT)["input_ids"]], vocabulary=writer.vocabulary)
    starts = [tokenizer(o.prompt)["input_ids"] for o in (*tuning, *test)]
    human = [
        scores_of(start, o.human, tokenizer.decode(o.human), judge)
        for start, o in zip(starts, (*tuning, *test), strict=True)
    ]
    text = TextSubject(
        tuning=tuning, test=test, starts=starts, human=human, judge=judge, length=LENGTH, block=1
    )
    return [task, text]


def content(folder):
    return {
        path.name: {k: v for k, v in json.loads(path.read_text()).items() if k != "seconds"}
        for path in folder.glob("*.json")
    }


@pytest.fixture(scope="module")
def whole(writer, subjects, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    cells = Cells(folder, {"size": 1})
    run(cells, writer, subjects, PLAN)
    return cells, folder


def test_a_killed_run_goes_on_to_the_same_result(whole, writer, subjects, tmp_path):
    _, folder = whole
    cells = Cells(tmp_path / "cells", {"size": 1})

    class Killed(Exception):  # noqa: N818  (no error: it stands for a signal)
        pass

    made = cells.made
    left = [30]

    def dying(make, *names):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return made(make, *names)

    cells.made = dying
    with pytest.raises(Killed):
        run(cells, writer, subjects, PLAN)
    pieces = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*.json")}
    assert len(pieces) == 31
    # the rest from the other end
    again = Cells(tmp_path / "cells", {"size": 1})
    run(again, writer, subjects, Plan(seeds=2, backwards=True))
    assert all(p.stat().st_mtime_ns == time for p, time in pieces.items())
    assert content(tmp_path / "cells") == content(folder)
    assert summary(again, subjects) == summary(whole[0], subjects)


def test_every_method_is_in_the_result(whole, subjects):
    found = summary(whole[0], subjects)
    json.dumps(found, allow_nan=False)
    for name, prompts, seeds in (("sums", 4, 2), ("text", 2, 2)):
        described = found["subjects"][name]
        assert described["prompts"] == prompts
        assert set(described["methods"]) == {*BASELINES, *ENTROPIC}
        assert set(described["methods"]["edt"]) == {"tuned", "matched"}
        assert set(described["methods"]["greedy"]) == {"tuned"}
        tokens = described["methods"]["aes"]["tuned"]["tokens"]
        assert tokens == prompts * seeds * LENGTH
    comparisons = found["comparisons"]
    assert set(comparisons["answers"]["tuned"]) == set(ENTROPIC)
    assert set(comparisons["text"]["matched"]) == {m.name for m in METHODS} - {"temperature"}
    assert found["verdict"] in {"holds", "holds with a correction", "does not hold", "undecided"}
    assert found["subjects"]["text"]["methods"]["temperature"]["tuned"]["same_trigrams"] is not None
    assert found["subjects"]["text"]["methods"]["greedy"]["tuned"]["same_trigrams"] is None


def test_a_block_counts_when_it_is_complete(whole, subjects, tmp_path):
    _, folder = whole
    for path in folder.glob("sums-*.json"):
        if path.name != "sums-test-mirostat-matched-1.json":
            (tmp_path / path.name).write_text(path.read_text())
    found = gathered(Cells(tmp_path, {"size": 1}), subjects[0])
    assert found.prompts == 2
    assert gathered(Cells(tmp_path, {"size": 1}), subjects[1]) is None


def test_the_best_setting_is_chosen_and_the_matched_one_interpolated(subjects):
    def cell(right, entropy):
        row = {"tokens": [1, 2], "realised": entropy, "scores": {"accuracy": right}}
        return {"rows": [row]}

    tuning = {m.name: [cell(0.0, e) for e in (0.1, 0.2, 0.4, 0.8)] for m in METHODS}
    tuning["edt"] = [cell(a, e) for a, e in ((0.5, 0.2), (1.0, 0.3), (1.0, 0.5), (0.0, 0.7))]
    tuning["greedy"] = [cell(0.5, 0.0)]
    levels = {"methods": {m.name: {"strengths": [1.0, 2.0, 4.0, 8.0]} for m in METHODS}}
    found = chosen(levels, tuning, subjects[0])
    # of equals the colder
    assert (found["edt"]["tuned"], found["edt"]["setting"]) == (2.0, 1)
    # temperature's third setting has 0.4, half way between edt's 2 and 4 in entropy
    assert found["edt"]["matched"] == pytest.approx(8**0.5, rel=1e-3)
    assert found["temperature"]["matched"] == 4.0
    assert found["greedy"]["qualities"] == [0.5]


def test_seeds_are_written_together_as_if_alone(writer):
    prompts = ["It is", "a truth universally acknowledged, that"]
    policy = Fixed(temperature=1.0)
    both = writer.write(prompts, policy, [3, 4], length=6)
    assert [s.tokens for s in both[1]] == [
        s.tokens for s in writer.write(prompts, policy, [4], length=6)[0]
    ]
    assert both[0] != both[1]
    assert all(len(sample.tokens) == 6 for rows in both for sample in rows)


def test_realised_entropy_is_that_of_the_model_s_own_distributions(writer):
    """At temperature 1 what is drawn from is the model's, also where the policy forks elsewhere."""
    (rows,) = writer.write(["It is", "a truth"], Fixed(temperature=1.0), [1], length=8)
    for sample in rows:
        assert sample.realised == pytest.approx(sample.entropy, abs=1e-4)
    (rows,) = writer.write(["It is", "a truth"], Quadrant(), [1], length=8)
    assert all(0 <= sample.realised < 5.6 for sample in rows)
    assert realised(
        {"rows": [{"tokens": [1], "realised": 2.0}, {"tokens": [1] * 3, "realised": 1}]}
    )
    assert sum(rows[0].actions.values()) == 8


def test_other_settings_need_another_folder(tmp_path):
    Cells(tmp_path, {"size": 1})
    with pytest.raises(DataError, match="other settings"):
        Cells(tmp_path, {"size": 2})
    (tmp_path / "a-b.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        Cells(tmp_path, {"size": 1}).get("a", "b")


def test_splits_of_a_novel_do_not_overlap(writer):
    tuning, test = novel.openings(writer.tokenizer, 3, 3, LENGTH, TEXT)
    stretches = [o.prompt + writer.tokenizer.decode(o.human) for o in (*tuning, *test)]
    places = sorted((TEXT.index(s), TEXT.index(s) + len(s)) for s in stretches)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
    assert all(len(o.human) == LENGTH for o in (*tuning, *test))


def test_two_subjects_have_resamples_of_their_own():
    assert not (weights(5, 20, 0) == weights(5, 20, 1)).all()
