"""One text, written token by token."""

import secrets
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from gibbsian._errors import ArgumentError, DataError, UnsupportedModelError
from gibbsian.experiments.generation.config import GenerateConfig
from gibbsian.experiments.generation.levels import calibrated, quadrant, thresholds_path
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.model_files import (
    longest_text,
    model_source,
    predicts_next_token,
    quiet_transformers,
    read_model_files,
    read_tokenizer,
)
from gibbsian.experiments.text import load_text
from gibbsian.integrations.transformers import TokenTexts, gibbsian_generate
from gibbsian.sampling import Calibration, Thresholds, TokenRecord
from gibbsian.sampling.policies import policy_from_text

SCHEMA = 1


@runtime_checkable
class Observer(Protocol):
    """Who watches."""

    def on_token(self, token: dict[str, Any]) -> None:
        """A token was taken: its record, with `text` and `quadrant`."""


class Writer:
    """A language model with a tokenizer, thresholds and a policy, ready to write.

    Calibrates first, if that was asked for.

    Args:
        config: what is to be written.

    Attributes:
        calibration: where the thresholds come from; None = they are the package's own.
        path: the calibration file.

    Raises:
        DataError: a file cannot be found or read, or written.
        ArgumentError: thresholds that do not fit, or a text to insert that is not one token.
        UnsupportedModelError: no language model.
    """

    def __init__(self, config: GenerateConfig) -> None:
        self._config = config
        self._model, self._tokenizer = _language_model(config.model)
        self._positions = longest_text(self._model, self._tokenizer)
        given = config.thresholds
        self.path = thresholds_path(config.model) if given is None else Path(given)
        self.calibration: Calibration | None = None
        if config.calibrate is not None:
            self.calibration = self._calibrate(config.calibrate)
        elif given is not None or self.path.exists():
            self.calibration = Calibration.load(self.path)
        self._levels = Thresholds() if self.calibration is None else self.calibration.thresholds
        self._policy = policy_from_text(
            config.policy,
            thresholds=self._levels,
            insert_token=self._inserted(config.insert),
        )
        # thresholds on the command line come before those of the file
        self._levels = getattr(self._policy, "thresholds", self._levels)
        self._chat = self._wants_chat(config.chat)

    def write(self, observer: Observer) -> dict[str, Any]:
        """Generate, and return all that is known of it, JSON-able.

        Ctrl-C (KeyboardInterrupt) ends the text; then `stopped` is "interrupted".

        Raises:
            ArgumentError: a prompt that is longer than what the model reads.
        """
        config, prompt = self._config, self._config.prompt
        assert prompt is not None  # noqa: S101  (GenerateConfig: else there is only a calibration)
        tokens = self._prompt_tokens(prompt)
        seed = secrets.randbelow(1 << 31) if config.seed is None else config.seed
        written: list[dict[str, Any]] = []
        texts = TokenTexts(self._tokenizer)

        def told(records: list[TokenRecord]) -> None:
            token = asdict(records[0])
            token["text"] = texts.add(records[0].token)
            token["quadrant"] = quadrant(records[0].entropy, records[0].varentropy, self._levels)
            written.append(token)
            observer.on_token(token)

        started = time.perf_counter()
        ends = _ends(self._model)
        stopped = "length"
        try:
            with quiet_transformers():
                self._model.generate(  # type: ignore[operator]
                    torch.tensor([tokens], device=self._model.device),
                    attention_mask=torch.ones(1, len(tokens), dtype=torch.int64),
                    max_new_tokens=self._room(len(tokens)),
                    max_length=None,
                    do_sample=False,
                    pad_token_id=ends[0] if ends else 0,
                    custom_generate=gibbsian_generate,
                    policy=self._policy,
                    seed=seed,
                    attention=config.attention,
                    callback=told,
                )
        except KeyboardInterrupt:
            stopped = "interrupted"
        seconds = time.perf_counter() - started
        rest = texts.finish()
        if rest:
            written[-1]["text"] += rest
        if stopped == "length" and written and written[-1]["token"] in ends:
            stopped = "end"
        calibration = self.calibration
        return {
            "schema": SCHEMA,
            "model": config.model,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": describe_versions(),
            "machine": describe_machine(self._model.device),
            "prompt": prompt,
            "prompt_tokens": len(tokens),
            "chat": self._chat,
            "policy": self._policy.to_config(),
            "thresholds": self._levels.to_config(),
            "calibrated_on": None if calibration is None else calibration.text,
            "seed": seed,
            "stopped": stopped,
            "seconds": round(seconds, 3),
            "text": "".join(token["text"] for token in written),
            "rest": rest,
            "tokens": written,
        }

    def _calibrate(self, text: str) -> Calibration:
        content = load_text((text,))
        with quiet_transformers():
            tokens = self._tokenizer(content.content, verbose=False).input_ids
        calibration = calibrated(
            self._model,
            tokens,
            name=self._config.model,
            text=content.name,
            positions=self._positions,
        )
        try:
            calibration.save(self.path)
        except OSError as error:
            raise DataError(
                f"`--thresholds` must be a file that can be written, got {self.path}: "
                f"{error.strerror}. Give another."
            ) from None
        return calibration

    def _inserted(self, text: str | None) -> int | None:
        if text is None:
            return None
        tokens = self._tokenizer(text, add_special_tokens=False).input_ids
        if len(tokens) != 1:
            raise ArgumentError(
                f"`--insert` must be one token of the model, got {text!r}, which is {len(tokens)}. "
                "A word often is one with the space before it."
            )
        token: int = tokens[0]
        return token

    def _wants_chat(self, asked: bool | None) -> bool:
        has = getattr(self._tokenizer, "chat_template", None) is not None
        if asked and not has:
            raise ArgumentError(
                f"`--chat` needs a chat template, and {self._config.model} has none. Leave it out: "
                "the prompt is then continued as it is."
            )
        return has if asked is None else asked

    def _prompt_tokens(self, prompt: str) -> list[int]:
        tokens: list[int]
        if self._chat:
            message = [{"role": "user", "content": prompt}]
            text = self._tokenizer.apply_chat_template(
                message, add_generation_prompt=True, tokenize=False
            )
            tokens = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        else:
            tokens = self._tokenizer(prompt, verbose=False).input_ids
        if self._positions is not None and len(tokens) >= self._positions:
            raise ArgumentError(
                f"`--prompt` must be shorter than the {self._positions} tokens that "
                f"{self._config.model} reads, got {len(tokens)}."
            )
        return tokens

    def _room(self, prompt: int) -> int:
        most = self._config.max_tokens
        return most if self._positions is None else min(most, self._positions - prompt)


def _language_model(name: str) -> tuple[PreTrainedModel, Any]:
    """In evaluation mode, in float32."""
    source = model_source(name)
    with quiet_transformers():
        config = read_model_files(name, AutoConfig.from_pretrained, source)
        if config.is_encoder_decoder or not predicts_next_token(config, source):
            raise UnsupportedModelError(
                f"`model` must be a language model that writes, got {name!r} of type "
                f"{config.model_type!r}. Give a decoder, e.g. a Llama."
            )
        kind = AutoModelForCausalLM
        model = read_model_files(name, kind.from_pretrained, {**source, "dtype": torch.float32})
        tokenizer = read_tokenizer(name, source)
    return model.eval(), tokenizer


def _ends(model: PreTrainedModel) -> list[int]:
    config: Any = model.generation_config
    ends = config.eos_token_id
    if ends is None:
        return []
    return list(ends) if isinstance(ends, list | tuple) else [ends]
