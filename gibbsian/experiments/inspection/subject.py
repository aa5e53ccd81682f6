"""The model that is inspected, with what turns text or images into its inputs."""

import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from gibbsian._errors import ArgumentError, DataError, UnsupportedModelError

_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
    SafetensorError,
)
"""What the readers of damaged, foreign or missing files raise."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subject:
    """A model in evaluation mode, in float32."""

    name: str
    """As the user gave it."""
    model: PreTrainedModel
    """With a head for the next token where the saved one has it, else without any head."""
    predicts: bool
    """Whether it has that head."""
    tokenizer: Any
    """Of a language model, else None."""
    processor: Any
    """Of a vision model, else None."""
    positions: int | None
    """Longest input in tokens; None = no limit."""


def load_subject(name: str, *, images: bool) -> Subject:
    """The model that a hub name, a folder or a .gguf file stands for.

    Args:
        name: as the user gave it.
        images: whether it is to look at images, or else to read text.

    Raises:
        DataError: it cannot be found or read.
        ArgumentError: a vision model for text, or a language model for images.
        UnsupportedModelError: it has an encoder and a decoder, or parts for text and images.
    """
    source = _source(name)
    with _quiet():
        config = _read(name, AutoConfig.from_pretrained, source)
        _check_one_stack(name, config)
        known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
        predicts = "gguf_file" in source or bool(known & set(config.architectures or ()))
        kind = AutoModelForCausalLM if predicts else AutoModel
        model = _read(name, kind.from_pretrained, {**source, "dtype": torch.float32}).eval()
        if hasattr(model.config, "use_cache"):
            model.config.use_cache = False  # nothing is generated
        sees = model.main_input_name == "pixel_values"
        if sees != images:
            raise ArgumentError(
                f"`model` must be a {'vision' if images else 'language'} model for "
                f"`--{'images' if images else 'text'}`, got {type(model).__name__}. "
                f"Give `--{'images' if sees else 'text'}`."
            )
        tokenizer = None if images else _read(name, AutoTokenizer.from_pretrained, source)
        processor = _read(name, AutoImageProcessor.from_pretrained, source) if images else None
    return Subject(
        name=name,
        model=model,
        predicts=predicts,
        tokenizer=tokenizer,
        processor=processor,
        positions=None if images else _positions(model, tokenizer),
    )


def _source(name: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`."""
    path = Path(name)
    if path.suffix == ".gguf":
        try:
            with path.open("rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise DataError(f"`model` cannot be read: {path}: {error.strerror}.") from None
        if magic != b"GGUF":
            raise DataError(
                f"`model` must be a GGUF file, but {path} does not begin like one. Download it "
                "again."
            )
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    if not path.exists() and (path.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise DataError(
            f"`model` must be a hub name, a folder or a .gguf file, got {name}, which does not "
            "exist. Check the path."
        )
    return {"pretrained_model_name_or_path": name}


def _read(name: str, read: Callable[..., Any], source: dict[str, Any]) -> Any:
    try:
        return read(**source)
    except _UNREADABLE as error:
        # an empty message, or several lines with advice on transformers
        told = next((line for line in str(error).splitlines() if line.strip()), "").strip()
        raise DataError(
            f"`model` {name!r} cannot be loaded: {type(error).__name__}: {told[:200]} "
            "Give a folder saved by transformers, an intact GGUF file, or a name of the hub."
        ) from None


def _check_one_stack(name: str, config: Any) -> None:
    if config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{name!r} has an encoder and a decoder; inspect reads one stack of layers. Give an "
            "encoder (e.g. BERT), a decoder (e.g. Llama) or a vision model."
        )
    if {"text_config", "vision_config"} <= set(getattr(config, "sub_configs", ())):
        raise UnsupportedModelError(
            f"{name!r} has parts for text and for images; inspect reads one stack of layers. "
            "Give a language model or a vision model."
        )


def _positions(model: PreTrainedModel, tokenizer: Any) -> int | None:
    """The longest text the model and its tokenizer take, special tokens included."""
    limits = [getattr(model.config, "max_position_embeddings", None)]
    for part, module in model.named_modules():
        # RoBERTa numbers positions from behind the padding
        if isinstance(module, nn.Embedding) and part.endswith("position_embeddings"):
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - before)
    if tokenizer.model_max_length < 10**9:  # else "unknown"
        limits.append(tokenizer.model_max_length)
    return min((limit for limit in limits if limit is not None), default=None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and warnings (of heads left out)."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
