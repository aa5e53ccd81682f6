"""Thresholds of a model: where they are kept, how they are made, what they say of a token."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from gibbsian._errors import DataError
from gibbsian.experiments.pretrained import cache_folder
from gibbsian.sampling import Calibration, Thresholds, calibrate
from gibbsian.statistics import row_statistics

FILE = "gibbsian-thresholds.json"
"""In a model's folder."""

QUADRANTS = ("flowing", "treading", "exploring", "mist", "between")
"""As the policy `quadrant` calls them; "between" is neither high nor low."""

_WINDOW, _MOST = 512, 16384
_FEWEST = 101


def thresholds_path(model: str) -> Path:
    """The file of a model: in its folder, beside its .gguf file, or, of the hub, in the cache."""
    path = Path(model)
    if path.suffix == ".gguf":
        return path.with_suffix(".thresholds.json")
    if path.is_dir():
        return path / FILE
    return cache_folder() / "thresholds" / f"{model.replace('/', '--')}.json"


@torch.no_grad()
def calibrated(
    model: PreTrainedModel, tokens: Sequence[int], *, name: str, text: str, positions: int | None
) -> Calibration:
    """Quartiles of S and V where the model reads a text, in windows of up to 512 tokens.

    Args:
        model: a language model.
        tokens: of the text; the first 16384 are read.
        name: of the model, for the record.
        text: name of the text, for the record.
        positions: longest input of the model; None = no limit.

    Raises:
        DataError: no more than 100 tokens.
    """
    if len(tokens) < _FEWEST:
        raise DataError(
            f"`--calibrate` must be a text of at least {_FEWEST} tokens, got {len(tokens)} in "
            f"{text}. Give a longer one, of the kind that is to be generated."
        )
    window = min(_WINDOW, positions or _WINDOW)
    read = torch.tensor(tokens[:_MOST], device=model.device)
    entropies, varentropies = [], []
    for piece in read.split(window):
        statistics = row_statistics(model(piece.unsqueeze(0), use_cache=False).logits[0])
        entropies.append(statistics.entropy)
        varentropies.append(statistics.varentropy)
    return calibrate(torch.cat(entropies), torch.cat(varentropies), model=name, text=text)


def quadrant(entropy: float | None, varentropy: float | None, levels: Thresholds) -> str | None:
    """The name of the quadrant of a token, by the rule of the policy `quadrant`."""
    if entropy is None or varentropy is None:
        return None
    high = entropy >= levels.entropy_high
    if varentropy >= levels.varentropy_high:
        return "mist" if high else "exploring"
    if varentropy < levels.varentropy_low:
        if high:
            return "treading"
        if entropy < levels.entropy_low:
            return "flowing"
    return "between"
