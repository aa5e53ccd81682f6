"""A model that continues prompts with any policy, all through one loop."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList

from gibbsian._errors import DataError
from gibbsian.experiments.studies.decoding.watching import EntropyRecorder, RecordedPolicy
from gibbsian.integrations.transformers.sampling import gibbsian_generate
from gibbsian.sampling import row_seeds
from gibbsian.sampling.policies import Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One continuation; means over its tokens."""

    tokens: list[int]
    """Without padding; the one that ends it is among them."""
    text: str
    """What they read as, special tokens left out."""
    realised: float
    """Entropy of what was drawn from, nats."""
    entropy: float
    """S of the model's own distributions, nats."""
    surprisal: float
    """Of the tokens under the model, nats."""
    kept: float
    """Tokens that could be drawn."""
    actions: dict[str, int]
    """How many tokens came by which action."""


class _WideHead(nn.Linear):
    """The head in float32 on states in bfloat16: logits rounded to 8 bits have ties."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (nn.Linear's name)
        return super().forward(input.float())


class Writer:
    """A causal language model and its tokenizer.

    Args:
        source: folder or hub name.
        dtype: of everything but the head, which is float32.

    Raises:
        DataError: no causal language model with a tokenizer is there.
    """

    def __init__(self, source: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).eval()
            tokenizer: Any = AutoTokenizer.from_pretrained(source, padding_side="left")
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise DataError(f"`--model` must name a causal language model: {reason}") from error
        weight = model.get_output_embeddings().weight.detach().float()
        head = _WideHead(weight.shape[1], weight.shape[0], bias=False)
        head.weight = nn.Parameter(weight, requires_grad=False)
        model.set_output_embeddings(head)
        if tokenizer.pad_token_id is None:
            # padding is masked: any token will do
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        self.model, self.tokenizer = model, tokenizer
        self._prompts: dict[tuple[str, ...], tuple[Any, Any]] = {}

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return int(self.model.config.vocab_size)

    def chat(self, question: str) -> str:
        """The prompt that asks a question, by the model's own template."""
        text: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        return text

    def write(
        self,
        prompts: Sequence[str],
        policy: Policy,
        seeds: Sequence[int],
        *,
        length: int,
        whole: bool = False,
    ) -> list[list[Sample]]:
        """Continuations of the prompts, one for each seed, all in one batch.

        Args:
            prompts: as they go to the tokenizer.
            policy: what decides.
            seeds: of the draws; a row's draws depend on the seed and on its prompt's position.
            length: most tokens of a continuation.
            whole: never end before that.

        Returns:
            For each seed a continuation of each prompt.
        """
        inputs, cache = self._read(tuple(prompts))
        rows = torch.arange(len(prompts)).repeat(len(seeds))
        mine = copy.deepcopy(cache)
        mine.batch_select_indices(rows)
        recorder = EntropyRecorder()
        output = self.model.generate(
            input_ids=inputs["input_ids"][rows],
            attention_mask=inputs["attention_mask"][rows],
            past_key_values=mine,
            max_new_tokens=length,
            min_new_tokens=length if whole else None,
            pad_token_id=self.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            logits_processor=LogitsProcessorList([recorder]),
            custom_generate=gibbsian_generate,
            policy=RecordedPolicy(policy=policy, recorder=recorder),
            seed=torch.cat([row_seeds(seed, len(prompts), "cpu") for seed in seeds]),
            callback=recorder.next_step,
        )
        realised = recorder.of_rows().tolist()
        records: list[list[Any]] = [[] for _ in rows]
        for record in output.records:
            records[record.row].append(record)
        samples = [self._sample(row, realised[i]) for i, row in enumerate(records)]
        return [samples[i : i + len(prompts)] for i in range(0, len(samples), len(prompts))]

    @torch.no_grad()
    def _read(self, prompts: tuple[str, ...]) -> tuple[Any, Any]:
        """Prompts as tensors, and the cache behind all but their last token; both are kept."""
        if prompts not in self._prompts:
            inputs = self.tokenizer(
                list(prompts), return_tensors="pt", padding=True, add_special_tokens=False
            )
            mask = inputs["attention_mask"][:, :-1]
            cache = self.model(
                input_ids=inputs["input_ids"][:, :-1],
                attention_mask=mask,
                position_ids=(mask.cumsum(dim=-1) - 1).clamp_min(0),
                use_cache=True,
                logits_to_keep=1,
            ).past_key_values
            self._prompts[prompts] = inputs, cache
        return self._prompts[prompts]

    def _sample(self, records: list[Any], realised: list[float]) -> Sample:
        number = len(records)
        tokens = [record.token for record in records]
        actions: dict[str, int] = {}
        for record in records:
            actions[record.action] = actions.get(record.action, 0) + 1

        def mean(values: Sequence[SupportsFloat]) -> float:
            return round(sum(map(float, values)) / number, 5)

        return Sample(
            tokens=tokens,
            text=self.tokenizer.decode(tokens, skip_special_tokens=True),
            realised=mean(realised[:number]),
            entropy=mean([record.entropy for record in records]),
            surprisal=mean([record.surprisal for record in records]),
            kept=mean([record.kept for record in records]),
            actions=actions,
        )

    @torch.no_grad()
    def expected(
        self, prompt: str, continuation: Sequence[int]
    ) -> Float[Tensor, "length vocabulary"]:
        """Logits of the model at every token of a continuation."""
        start = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        tokens = torch.tensor([[*start, *continuation]])
        logits: Tensor = self.model(
            tokens, use_cache=False, logits_to_keep=len(continuation) + 1
        ).logits
        return logits[0, :-1].float()
