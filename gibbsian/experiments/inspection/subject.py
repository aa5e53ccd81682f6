"""The model that is inspected, with what turns text or images into its inputs."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedModel,
)

from gibbsian._errors import ArgumentError, UnsupportedModelError
from gibbsian.experiments.model_files import (
    longest_text,
    model_source,
    predicts_next_token,
    quiet_transformers,
    read_model_files,
    read_tokenizer,
)


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
    source = model_source(name)
    with quiet_transformers():
        config = read_model_files(name, AutoConfig.from_pretrained, source)
        _check_one_stack(name, config)
        predicts = predicts_next_token(config, source)
        kind = AutoModelForCausalLM if predicts else AutoModel
        model = read_model_files(
            name, kind.from_pretrained, {**source, "dtype": torch.float32}
        ).eval()
        if hasattr(model.config, "use_cache"):
            model.config.use_cache = False  # nothing is generated
        sees = model.main_input_name == "pixel_values"
        if sees != images:
            raise ArgumentError(
                f"`model` must be a {'vision' if images else 'language'} model for "
                f"`--{'images' if images else 'text'}`, got {type(model).__name__}. "
                f"Give `--{'images' if sees else 'text'}`."
            )
        tokenizer = None if images else read_tokenizer(name, source)
        processor = (
            read_model_files(name, AutoImageProcessor.from_pretrained, source) if images else None
        )
    return Subject(
        name=name,
        model=model,
        predicts=predicts,
        tokenizer=tokenizer,
        processor=processor,
        positions=None if images else longest_text(model, tokenizer),
    )


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
