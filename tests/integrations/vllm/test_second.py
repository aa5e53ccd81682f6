"""vLLM's second interface: requests keep a slot, rows are in any order; without vLLM.

Without a graphics processor vLLM does not run this one, so this is as far as it is tested.
"""

from random import Random

import numpy as np
import torch

from tests.integrations.vllm.engines import (
    SLOTS,
    STATES,
    LogitsContext,
    SamplingParams,
    Text,
    second,
    slots,
    texts,
)


class Slots:
    """Slots of a free list, as vLLM's RequestState keeps them."""

    def __init__(self, context=LogitsContext, make=second, **options):
        self.state = slots()
        self.processor = make(self.state, **options)
        self.context = context
        self.free = list(range(SLOTS))
        self.slot: dict[Text, int] = {}

    def add(self, text):
        slot = self.free.pop()
        self.slot[text] = slot
        self.state.prompt_len.np[slot] = len(text.prompt)
        self.state.prefill_len.np[slot] = len(text.prompt) + len(text.output)
        assert self.processor.add_request(slot, text.parameters) == (text.policy is not None)

    def remove(self, text):
        """The processor is not told."""
        self.free.append(self.slot.pop(text))

    def apply(self, logits, rows, upper):
        """Of rows (text, offset among the text's own), a row of logits each."""
        mapping = np.array([self.slot[text] for text in upper])
        expanded = [self.slot[text] for text, _ in rows]
        lengths = [len(text.prompt) + len(text.output) + offset for text, offset in rows]
        context = self.context(
            expanded_idx_mapping=torch.tensor(expanded),
            idx_mapping=torch.tensor(mapping),
            idx_mapping_np=mapping,
            expanded_local_pos=torch.tensor([offset for _, offset in rows]),
            input_ids=torch.zeros(len(rows), dtype=torch.int32),
            pos=torch.tensor(lengths) - 1,
            seq_lens_upper_bound_np=np.array(list(upper.values()), dtype=np.int32),
        )
        self.processor.apply_staged_writes()
        return self.processor.apply(logits, context)


def test_slots_that_are_taken_and_freed_draw_as_if_alone():
    chance = Random(6)  # noqa: S311
    waiting, engine = texts(), Slots()
    everything = list(waiting)
    chance.shuffle(waiting)
    for _ in range(60):
        for text in list(engine.slot):
            if chance.random() < 0.15:
                engine.remove(text)
                waiting.insert(chance.randrange(len(waiting) + 1), text)
        while waiting and len(engine.slot) < SLOTS - 2:
            engine.add(waiting.pop())
        active = list(engine.slot)
        chance.shuffle(active)
        upper = {text: len(text.prompt) + len(text.output) for text in active}
        reading = [text for text in active if text.output == [] and chance.random() < 0.3]
        for text in reading:
            upper[text] -= 1
        logits = torch.stack([text.logits(len(text.output)) for text in active])
        left = engine.apply(logits.clone(), [(text, 0) for text in active], upper)
        for i, text in enumerate(active):
            if text in reading:
                assert torch.equal(left[i], logits[i])
            else:
                text.take(left[i])
    assert min(len(text.output) for text in everything) > 5
    for text in everything:
        assert text.output == text.expected(), text


def test_a_prompt_and_text_read_again_in_pieces_draw_nothing():
    engine, text = Slots(), Text(0, "mirostat:target=1.0,rate=2.0", 4)
    engine.add(text)
    for _ in range(3):
        row = engine.apply(text.logits(len(text.output))[None], [(text, 0)], {text: length(text)})
        text.take(row[0])
    engine.remove(text)
    engine.add(text)
    # rows of the pieces stand for tokens that are known
    for missing in (5, 2):
        piece = torch.randn(1, STATES)
        left = engine.apply(piece.clone(), [(text, 0)], {text: length(text) - missing})
        assert torch.equal(left, piece)
    for _ in range(3):
        row = engine.apply(text.logits(len(text.output))[None], [(text, 0)], {text: length(text)})
        text.take(row[0])
    assert text.output == text.expected()


def length(text):
    return len(text.prompt) + len(text.output)


def test_drafts_do_not_change_what_is_drawn():
    chance = Random(7)  # noqa: S311
    engine = Slots(speculative=object())
    several = texts()[:6]
    for text in several:
        engine.add(text)
    for _ in range(10):
        rows, drafts, logits = [], {}, []
        chance.shuffle(several)
        for text in several:
            known, right = len(text.output), chance.randrange(4)
            drafts[text] = text.expected(known + right)[known:]
            drafts[text] += [chance.randrange(STATES) for _ in range(chance.randrange(3))]
            rows += [(text, offset) for offset in range(len(drafts[text]) + 1)]
            logits += [text.logits(known + offset) for offset in range(len(drafts[text]) + 1)]
        # how many drafts were taken the step before is not known on the host yet
        upper = {text: length(text) + chance.randrange(4) for text in several}
        left = engine.apply(torch.stack(logits), rows, upper)
        stopped = set()
        for i, (text, offset) in enumerate(rows):
            if text in stopped:
                continue
            text.take(left[i])
            if offset < len(drafts[text]) and drafts[text][offset] != text.output[-1]:
                stopped.add(text)
    for text in several:
        assert len(text.output) > 10
        assert text.output == text.expected(), text


def test_a_slot_is_free_for_another_request():
    engine, one, other = Slots(), Text(0, "quadrant", 1), Text(1)
    engine.free = [3]
    engine.add(one)
    one.take(engine.apply(one.logits(0)[None], [(one, 0)], {one: length(one)})[0])
    engine.remove(one)
    engine.add(other)
    for _ in range(2):
        row = engine.apply(other.logits(len(other.output))[None], [(other, 0)], {other: 9})
        other.take(row[0])
    assert one.output == one.expected()
    assert other.output == other.expected()


def test_without_requests_with_a_policy_nothing_is_done():
    engine = Slots()
    assert engine.processor.add_request(0, SamplingParams(temperature=0.0)) is False
    logits = torch.randn(3, STATES)
    assert engine.processor.apply(logits, None) is logits
