"""vLLM's first interface: rows are requests, which come, go and move; without vLLM."""

import json
from random import Random

import pytest
import torch

from gibbsian.integrations.vllm import POLICY_VARIABLE
from tests.integrations.vllm.engines import (
    POLICIES,
    SLOTS,
    STATES,
    BatchUpdate,
    MoveDirectionality,
    SamplingParams,
    Text,
    first,
    texts,
)


class Batch:
    """Dense rows, as vLLM's InputBatch keeps them: removed rows are filled, then closed up."""

    def __init__(self, processor):
        self.processor = processor
        self.rows: list[Text | None] = []
        self.removed, self.added, self.moved = [], [], []

    def remove(self, text):
        row = self.rows.index(text)
        self.rows[row] = None
        self.removed.append(row)
        self.removed.sort(reverse=True)

    def add(self, text):
        row = self.removed.pop() if self.removed else len(self.rows)
        if row == len(self.rows):
            self.rows.append(None)
        self.rows[row] = text
        self.added.append((row, text.parameters, text.prompt, text.output))

    def close_up(self):
        while self.removed:
            while self.rows and self.rows[-1] is None:
                self.rows.pop()
            empty = self.removed[-1]
            if empty >= len(self.rows):
                break
            self.removed.pop()
            last = len(self.rows) - 1
            self.moved.append((last, empty, MoveDirectionality.UNIDIRECTIONAL))
            self.rows[empty], self.rows[last] = self.rows[last], None
        while self.rows and self.rows[-1] is None:
            self.rows.pop()

    def swap(self, i, j):
        self.moved.append((i, j, MoveDirectionality.SWAP))
        self.rows[i], self.rows[j] = self.rows[j], self.rows[i]

    def refresh(self):
        update = BatchUpdate(len(self.rows), self.removed, self.added, self.moved)
        changed = self.removed or self.added or self.moved
        self.processor.update_state(update if changed else None)
        self.removed, self.added, self.moved = [], [], []

    def step(self, *, reading=()):
        """One step; the texts in `reading` have a piece of their prompt read, and draw nothing."""
        logits = torch.stack([text.logits(len(text.output)) for text in self.rows])
        for i, text in enumerate(self.rows):
            if text in reading:
                logits[i] = -logits[i]
        left = self.processor.apply(logits)
        for i, text in enumerate(self.rows):
            if text not in reading:
                text.take(left[i])


def test_rows_that_come_go_move_and_swap_draw_as_if_alone():
    chance = Random(5)  # noqa: S311
    processor = first()
    waiting, batch = texts(), Batch(processor)
    everything = list(waiting)
    chance.shuffle(waiting)
    for _ in range(60):
        active = [text for text in batch.rows if text]
        # some are set aside for a while, as for want of memory, and come back where there is room
        for text in active:
            if chance.random() < 0.15:
                batch.remove(text)
                waiting.insert(chance.randrange(len(waiting) + 1), text)
        while waiting and sum(text is not None for text in batch.rows) < SLOTS - 2:
            batch.add(waiting.pop())
        batch.close_up()
        if len(batch.rows) > 1 and chance.random() < 0.5:
            batch.swap(*chance.sample(range(len(batch.rows)), 2))
        batch.refresh()
        # a prompt is read in pieces at the start, and again when a text comes back
        reading = [text for text in batch.rows if chance.random() < 0.2]
        batch.step(reading=reading)
        for text in batch.rows:
            sequence = processor._sequences.get(batch.rows.index(text))
            assert sequence is None or len(sequence._memories) <= 2
    assert min(len(text.output) for text in everything) > 5
    for text in everything:
        assert text.output == text.expected(), text


def test_a_row_is_free_for_another_request():
    batch = Batch(first())
    one, other = Text(0, "quadrant", 1), Text(1)
    batch.add(one)
    batch.refresh()
    batch.step()
    batch.remove(one)
    batch.add(other)
    batch.refresh()
    batch.step()
    batch.step()
    assert one.output == one.expected()
    assert other.output == other.expected()


@pytest.mark.parametrize("policy", POLICIES)
def test_one_request_again_begins_anew(policy):
    batch, text = Batch(first()), Text(0, policy, 3)
    batch.add(text)
    batch.refresh()
    for _ in range(4):
        batch.step()
    batch.remove(text)
    before, text.output = text.output, []
    batch.close_up()
    batch.refresh()
    batch.add(text)
    batch.refresh()
    for _ in range(4):
        batch.step()
    assert text.output == before == text.expected()


def test_without_requests_with_a_policy_nothing_is_done():
    processor = first()
    logits = torch.randn(3, STATES)
    assert processor.apply(logits) is logits
    processor.update_state(None)
    added = [(0, SamplingParams(temperature=0.0), [1], [])]
    processor.update_state(BatchUpdate(1, [], added, []))
    kept = logits.clone()
    assert processor.apply(logits) is logits
    assert torch.equal(logits, kept)
    assert processor.is_argmax_invariant() is False


def test_without_a_seed_the_engine_draws_from_what_the_policy_leaves():
    batch, text = Batch(first()), Text(0, "fixed:temperature=0.5,min_p=0.1")
    batch.add(text)
    batch.refresh()
    logits = text.logits(0)[None]
    left = batch.processor.apply(logits.clone())
    kept = (logits - logits.max()) / 0.5 >= torch.tensor(0.1).log()
    assert 1 < int(kept.sum()) < STATES
    torch.testing.assert_close(left, torch.where(kept, logits / 0.5, -torch.inf))


def test_without_a_seed_a_policy_that_remembers_draws_here():
    def run(seed=None, engine=0, policy="mirostat:target=1.0"):
        batch = Batch(first(seed=engine))
        several = [Text(0, policy), Text(0, policy)]
        for text in several:
            text.parameters.seed = seed
            batch.add(text)
        batch.refresh()
        for _ in range(8):
            batch.step()
        return [text.output for text in several]

    one, other = run()
    assert one != other
    assert run() == [one, other], "the engine's own seed repeats"
    assert run(engine=1) != [one, other]
    one, other = run(seed=5)
    assert one == other, "vLLM's seed is used if it is given"
    assert run(seed=6) != [one, other]


def test_the_environment_gives_a_policy_to_requests_that_name_none(monkeypatch):
    monkeypatch.setenv(POLICY_VARIABLE, "edt")
    batch = Batch(first())
    text = Text(0, "edt", 9)
    text.parameters.extra_args = {"gibbsian_seed": 9}
    batch.add(text)
    batch.refresh()
    for _ in range(3):
        batch.step()
    assert text.output == text.expected()


def test_a_bad_default_stops_the_engine_before_it_serves(monkeypatch):
    monkeypatch.setenv(POLICY_VARIABLE, "nonsense")
    with pytest.raises(ValueError, match="GIBBSIAN_POLICY"):
        first()
    monkeypatch.setenv(POLICY_VARIABLE, json.dumps({"name": "quadrant", "insert_token": STATES}))
    with pytest.raises(ValueError, match="`insert_token` must be a token of the vocabulary"):
        first()


def test_a_token_beyond_the_vocabulary_is_logged_and_ends_nobody(caplog):
    batch = Batch(first())
    text = Text(0)
    policy = {"name": "quadrant", "insert_token": STATES}
    text.parameters.extra_args = {"gibbsian_policy": json.dumps(policy)}
    batch.add(text)
    batch.refresh()
    batch.step()
    assert text.output == text.expected()
    assert "without its policy" in caplog.text
    assert "`insert_token` must be a token of the vocabulary" in caplog.text


def test_what_was_forbidden_stays_forbidden():
    batch = Batch(first())
    several = [Text(i, policy, 1) for i, policy in enumerate(POLICIES)]
    for text in several:
        batch.add(text)
    batch.refresh()
    logits = torch.full((len(several), STATES), -torch.inf)
    logits[:, [3, 17]] = torch.tensor([0.0, 1.0])
    left = batch.processor.apply(logits)
    assert set(left.argmax(-1).tolist()) <= {3, 17}


def test_a_row_of_nan_does_not_end_the_engine():
    batch = Batch(first())
    bad, good = Text(0, "mirostat", 1), Text(1, "mirostat", 1)
    batch.add(bad)
    batch.add(good)
    batch.refresh()
    logits = torch.stack([torch.full((STATES,), torch.nan), good.logits(0)])
    good.take(batch.processor.apply(logits)[1])
    assert good.output == good.expected()


def test_a_move_replaces_and_leaves_nothing_behind():
    processor = first()
    batch = Batch(processor)
    several = [Text(i, "edt", i) for i in range(3)]
    for text in several:
        batch.add(text)
    batch.refresh()
    last = processor._sequences.get(2)
    batch.remove(several[0])
    batch.close_up()
    batch.refresh()
    assert processor._sequences.get(0) is last
    assert processor._sequences.get(2) is None
