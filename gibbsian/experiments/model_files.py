"""Reading a model that a user names: hub name, folder as transformers saves it, or .gguf file."""

import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging

from gibbsian._errors import DataError

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

_PLAIN = {"trust_remote_code": False}
"""A model that brings code of its own is refused; transformers would ask whether to run it."""


_TOKENIZER_FILES = ("*token*", "*vocab*", "*.model", "*tekken*")
"""One of these is there if a tokenizer is."""


def model_source(name: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`.

    Raises:
        DataError: a path that does not exist, or a .gguf file that is none.
    """
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
        return {**_PLAIN, "pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    if not path.exists() and (path.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise DataError(
            f"`model` must be a hub name, a folder or a .gguf file, got {name}, which does not "
            "exist. Check the path."
        )
    return {**_PLAIN, "pretrained_model_name_or_path": name}


def read_model_files(name: str, read: Callable[..., Any], source: dict[str, Any]) -> Any:
    """What a `from_pretrained` returns.

    Args:
        name: as the user gave it.
        read: the function.
        source: from `model_source`.

    Raises:
        DataError: the files cannot be found or read.
    """
    try:
        return read(**source)
    except _UNREADABLE as error:
        if "gguf_file" in source and _is_damaged(Path(name)):
            raise DataError(
                f"`model` {name} cannot be loaded: the file is damaged or cut short; download it "
                "again."
            ) from None
        # an empty message, or several lines with advice on transformers
        told = next((line for line in str(error).splitlines() if line.strip()), "").strip()
        raise DataError(
            f"`model` {name!r} cannot be loaded: {type(error).__name__}: {told[:200]} "
            "Give a folder saved by transformers, an intact GGUF file, or a name of the hub."
        ) from None


def _is_damaged(path: Path) -> bool:
    """Whether a GGUF file does not hold what its own table of contents says."""
    try:
        import gguf  # noqa: PLC0415  (an extra of its own)
    except ImportError:
        return False
    try:
        gguf.GGUFReader(path)
    except _UNREADABLE:
        return True
    return False


def read_tokenizer(name: str, source: dict[str, Any]) -> Any:
    """The tokenizer that was saved with the model.

    Args:
        name: as the user gave it.
        source: from `model_source`.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    folder = Path(name)
    missing = DataError(
        f"`model` must come with its tokenizer, but there is no tokenizer in the folder {name}; "
        "save it there with tokenizer.save_pretrained."
    )
    if folder.is_dir() and not any(
        path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)
    ):
        raise missing
    tokenizer = read_model_files(name, AutoTokenizer.from_pretrained, source)
    # where the vocabulary is missing, transformers makes one of the special tokens alone
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise missing
    return tokenizer


def predicts_next_token(config: Any, source: dict[str, Any]) -> bool:
    """Whether the saved model has a head for the next token, as those in GGUF files have.

    An encoder (BERT) may be saved with such a head too: it sees the tokens that it would predict,
    unless it was made a decoder.

    Args:
        config: of the model.
        source: from `model_source`.
    """
    if "gguf_file" in source:
        return True
    encodes = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if encodes and not getattr(config, "is_decoder", False):
        return False
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    return bool(known & set(config.architectures or ()))


def longest_text(model: PreTrainedModel, tokenizer: Any) -> int | None:
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
def quiet_transformers() -> Iterator[None]:
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
