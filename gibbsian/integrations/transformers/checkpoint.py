"""Loading a model that was saved with its attention.

The format is what `save_pretrained` writes of a model that `use` has changed:

- config.json has a field `gibbsian_attention`, the attention's `to_config()` (or its name and
  `"custom": true` if a schedule of the user's own is in it);
- the weights' safetensors hold `<layer>.gibbsian_attention.<parameter>` beside the model's own
  (`<layer>` as transformers names it in files, which for a few models is not as in memory).

transformers' `from_pretrained` alone does not know the attention, and would build the model with
softmax attention and the parameters of the schedules as unexpected keys.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    logging,
)
from transformers.utils.hub import cached_file

from gibbsian._errors import CheckpointError
from gibbsian.attention import Attention, attention_from_config
from gibbsian.integrations.transformers.conversion import attention_layers, use
from gibbsian.integrations.transformers.names import CUSTOM, SUBMODULE

_MARK = f".{SUBMODULE}."
_PLACE_OPTIONS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "revision",
    "subfolder",
    "token",
)


def load(
    auto_class: Any, path: str | Path, *, attention: Attention | None = None, **options: Any
) -> PreTrainedModel:
    """`auto_class.from_pretrained(path)` for a model saved after `use`, attention included.

    Args:
        auto_class: e.g. `AutoModelForCausalLM`, or a model class.
        path: a folder written by `save_pretrained`, or a model's name on a hub.
        attention: only for one with a schedule of your own, which no description can name.
        **options: of `from_pretrained`.

    Returns:
        The model with its attention and the attention's parameters, in evaluation mode.

    Raises:
        CheckpointError: the folder cannot be read, has no gibbsian attention, or the attention's
            parameters there are not exactly those that its description needs.

    Warns:
        UserWarning: other weights of the model are missing or left over (a new head, say).
    """
    model, report = _from_pretrained(auto_class, path, options)
    description = _description_in(model)
    if description is None:
        raise CheckpointError(
            f"`path` must hold a model saved after `use`, but config.json in {path} has no field "
            f"{SUBMODULE!r}. Load it with `from_pretrained`, then call `use`."
        )
    if attention is None:
        if CUSTOM in description:
            raise CheckpointError(
                f"`attention` must be given to load {path}: it was saved with a schedule that is "
                "not the package's own. Build the same attention in code."
            )
        attention = attention_from_config(description)
    use(model, attention).eval()
    place_options = {name: options[name] for name in _PLACE_OPTIONS if name in options}
    _restore(model, _stored(path, place_options), path)
    _warn_of_the_rest(report, path)
    return model


def _description_in(model: PreTrainedModel) -> dict[str, Any] | None:
    """Of the model, or of a part with its own configuration that got its attention by name."""
    parts = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    found = (getattr(part.config, SUBMODULE, None) for part in parts)
    return next((description for description in found if description is not None), None)


def _from_pretrained(
    auto_class: Any, path: str | Path, options: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    # Its report would list the attention's parameters as unexpected; ours comes afterwards.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, report = auto_class.from_pretrained(path, output_loading_info=True, **options)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"`path` must hold a saved model, got {path}: {reason} Save it again."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    return model, report


def _stored(path: str | Path, place_options: dict[str, Any]) -> dict[str, Tensor]:
    """The attention's parameters in the safetensors files."""

    def find(name: str) -> str | None:
        found: str | None = cached_file(
            path, name, _raise_exceptions_for_missing_entries=False, **place_options
        )
        return found

    index, whole = find(SAFE_WEIGHTS_INDEX_NAME), find(SAFE_WEIGHTS_NAME)
    files = [whole]
    if index:
        shard_of = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
        files = [find(shard) for shard in sorted({s for k, s in shard_of.items() if _MARK in k})]
    stored: dict[str, Tensor] = {}
    for file in filter(None, files):
        with safe_open(file, framework="pt") as tensors:
            keys = [key for key in tensors.keys() if _MARK in key]  # noqa: SIM118  (not a dict)
            stored |= {key: tensors.get_tensor(key) for key in keys}
    return stored


def _restore(model: PreTrainedModel, stored: dict[str, Tensor], path: str | Path) -> None:
    # Saved with a head and loaded without one, or the other way round: the same layers.
    prefix = f"{model.base_model_prefix}."
    stored = {key.removeprefix(prefix): tensor for key, tensor in stored.items()}
    saved_as = {own: saved.removeprefix(prefix) for own, saved in _names_in_files(model).items()}
    for layer, attention in attention_layers(model).items():
        state = {}
        for parameter in attention.state_dict():
            saved = saved_as[f"{layer}{_MARK}{parameter}"]
            if saved not in stored:
                raise CheckpointError(
                    f"`path` {path} lacks {saved}: its weights and its config.json belong to "
                    "different models."
                )
            state[parameter] = stored.pop(saved)
        try:
            attention.load_state_dict(state)
        except RuntimeError as error:
            # torch's first line names the class, the second what is wrong
            reason = " ".join(str(error).split("\n")[1:2]).strip()
            raise CheckpointError(
                f"`path` {path} does not fit the attention of {layer}: {reason} Its weights and "
                "its config.json belong to different models."
            ) from None
    if stored:
        raise CheckpointError(
            f"`path` {path} holds attention parameters that the model has no place for: "
            f"{', '.join(sorted(stored)[:2])}, ... Load it with the class that saved it."
        )


def _names_in_files(model: PreTrainedModel) -> dict[str, str]:
    """Where each attention parameter is in the files: some models are saved under older names."""
    own = [key for key in model.state_dict() if _MARK in key]
    numbered = {key: torch.tensor(number) for number, key in enumerate(own)}
    return {own[int(n)]: saved for saved, n in revert_weight_conversion(model, numbered).items()}


def _warn_of_the_rest(report: dict[str, Any], path: str | Path) -> None:
    left_over = [key for key in report["unexpected_keys"] if _MARK not in key]
    for what, keys in (("new", report["missing_keys"]), ("left over", left_over)):
        if keys:
            warnings.warn(
                f"{len(keys)} weights are {what} in the model loaded from {path}: "
                f"{', '.join(sorted(keys)[:3])}, ...",
                stacklevel=3,
            )
