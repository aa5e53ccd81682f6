import pytest
import torch

from gibbsian._errors import DataError
from gibbsian.experiments.windows import (
    IGNORED,
    TrainingExamples,
    cut_windows,
    label,
    validation_batches,
)

MASK = 999


def make_windows(count=7, context=10):
    return torch.arange(count * context).view(count, context)


def examples(number=20, seed=0, kind="decoder"):
    return TrainingExamples(make_windows(), number, kind=kind, mask_token=MASK, seed=seed)


def test_windows_stay_inside_their_stretch():
    windows = cut_windows(
        [torch.arange(7), torch.arange(100, 102), torch.arange(50, 56)], 3, part="x"
    )
    assert windows.tolist() == [[0, 1, 2], [3, 4, 5], [50, 51, 52], [53, 54, 55]]


def test_short_text_is_refused():
    with pytest.raises(DataError, match=r"longest validation block has 9 tokens.*`context` = 10"):
        cut_windows([torch.arange(9), torch.arange(3)], 10, part="validation")


def test_decoder_predicts_all_but_the_first():
    example = label(torch.tensor([5, 6, 7]), "decoder", MASK, 0)
    assert example["input_ids"].tolist() == [5, 6, 7]
    assert example["labels"].tolist() == [IGNORED, 6, 7]


def test_encoder_hides_what_it_predicts():
    window = torch.arange(100)
    example = label(window, "encoder", MASK, 3)
    hidden = example["input_ids"] == MASK
    assert int(hidden.sum()) == 15
    assert torch.equal(example["labels"] != IGNORED, hidden)
    assert torch.equal(torch.where(hidden, example["labels"], example["input_ids"]), window)
    other = label(window, "encoder", MASK, 4)
    assert not torch.equal(other["labels"], example["labels"])


def test_an_epoch_shows_every_window_once():
    first = [int(examples()[i]["input_ids"][0]) for i in range(7)]
    second = [int(examples()[i]["input_ids"][0]) for i in range(7, 14)]
    assert sorted(first) == sorted(second) == list(range(0, 70, 10))
    assert first != second
    assert len(examples(20)) == 20


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_examples_depend_on_seed_and_number_only(kind):
    one, same, other = (examples(seed=s, kind=kind) for s in (1, 1, 2))
    torch.manual_seed(123)
    assert all(torch.equal(one[i]["labels"], same[i]["labels"]) for i in reversed(range(20)))
    assert any(not torch.equal(one[i]["labels"], other[i]["labels"]) for i in range(20))


def test_masks_change_from_epoch_to_epoch():
    encoder = examples(14, kind="encoder")
    masks = {}
    for i in range(14):
        example = encoder[i]
        window = torch.where(example["labels"] == IGNORED, example["input_ids"], example["labels"])
        masks.setdefault(int(window[0]), []).append(tuple(example["input_ids"].tolist()))
    assert all(len(drawn) == 2 for drawn in masks.values())
    assert any(first != second for first, second in masks.values())


def test_validation_windows_are_spread_and_fixed():
    first, again = (
        validation_batches(make_windows(), 4, 3, kind="encoder", mask_token=MASK) for _ in range(2)
    )
    assert [len(batch["labels"]) for batch in first] == [3, 1]
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(first, again, strict=True))
    decoder = validation_batches(make_windows(), 4, 3, kind="decoder", mask_token=MASK)
    assert torch.cat([b["input_ids"] for b in decoder])[:, 0].tolist() == [0, 10, 30, 50]
    everything = validation_batches(make_windows(), 100, 3, kind="decoder", mask_token=MASK)
    assert sum(len(batch["labels"]) for batch in everything) == 7
