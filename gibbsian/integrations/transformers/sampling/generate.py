"""The loop of `generate` with a policy, for its argument `custom_generate`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.utils.generic import ModelOutput

from gibbsian._errors import ArgumentError, UnsupportedModelError
from gibbsian.integrations.transformers.sampling.forks import Forks
from gibbsian.integrations.transformers.sampling.signals import signal_reader
from gibbsian.sampling import StepResult, TokenRecord, Trace, start, step
from gibbsian.sampling.policies import Policy

_WARPERS = (
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    MinPLogitsWarper,
    TypicalLogitsWarper,
    EpsilonLogitsWarper,
    EtaLogitsWarper,
)

Callback = Callable[[list[TokenRecord]], None]
"""Called at every step with the new token of each row that is not finished."""


@dataclass
class EntropicOutput(ModelOutput):
    """What `generate(..., return_dict_in_generate=True)` returns with a policy."""

    sequences: Tensor | None = None
    """(batch, length): prompts and what was generated, finished rows padded."""
    records: list[TokenRecord] | None = None
    """What happened at each token, row after row; no padding among them."""
    logits: tuple[Tensor, ...] | None = None
    """The model's own, (batch, states) a step, with `output_logits=True`."""
    past_key_values: Cache | None = None
    """The cache, without the last token."""


@torch.no_grad()
def gibbsian_generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    policy: Policy,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    branches: int = 3,
    branch_length: int = 4,
    resamples: int = 3,
    attention: bool = False,
    callback: Callback | None = None,
    **model_kwargs: Any,
) -> Tensor | EntropicOutput:
    """Generate with a policy and its actions; to be given to `generate`, which prepares the rest.

    Prompts, padding on the left, lengths, stopping criteria, processors and cache are those of
    `generate`. Processors run first, so the statistics are those of what they leave;
    temperature, top-k, top-p and the like are the policy's, those of the generation configuration
    are left out.

    Args:
        model: a decoder.
        input_ids: (batch, length).
        logits_processor: run before the policy.
        stopping_criteria: when a row is finished.
        generation_config: lengths, special tokens, what to return.
        policy: what decides.
        seed: of the rows' random streams, a number or one a row; a row's text depends on its prompt
            and its seed, not on the rows around it. None = fresh ones.
        generator: where fresh seeds come from instead of torch's global generator.
        branches: how many continuations `Action.BRANCH` follows; 1 = it is an ordinary draw.
        branch_length: how many tokens each has. The one of the least mean surprisal is kept, whole.
        resamples: how many tokens `Action.RESAMPLE` draws at most: the first one after which the
            policy would not resample is kept, else the first; 1 = it is an ordinary draw.
        attention: tell the policy about the attention. A gibbsian attention is asked for its
            statistics; those of another are computed while it runs (`capture`).
        callback: for streaming.
        **model_kwargs: from `generate`, for the model.

    Returns:
        Sequences (batch, length), or `EntropicOutput` with `return_dict_in_generate=True`.

    Raises:
        ArgumentError: beams, or a number out of range.
        UnsupportedModelError: an encoder with a decoder; a cache whose rows cannot be copied, or
            `guidance_scale`, where the policy branches or resamples.

    Notes:
        Branching and resampling run on copies of the rows' caches; the rows themselves take one
        token a step. `streamer` and `tokenizer` do not reach a custom loop: use `callback`, and
        `StopStringCriteria` among the stopping criteria.

    Example:
        >>> from gibbsian.sampling.policies import Quadrant
        >>> model.generate(
        ...     **inputs, custom_generate=gibbsian_generate, policy=Quadrant(), seed=0
        ... )  # doctest: +SKIP
    """
    _check(model, generation_config)
    if seed is None and generator is not None:
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
    lm: Any = model  # nn.Module's own annotations know nothing of generate's methods
    processors: Any = LogitsProcessorList(
        p for p in logits_processor if not isinstance(p, _WARPERS)
    )
    rows, device = input_ids.shape[0], input_ids.device
    state = start(policy, rows, seed=seed, device=device)
    unfinished = torch.ones(rows, dtype=torch.bool, device=device)
    trace, lengths = Trace(policy), torch.zeros(rows, dtype=torch.int64, device=device)
    returned = generation_config.return_dict_in_generate
    kept: list[Tensor] = []
    with signal_reader(model, wanted=attention) as reader:
        model_kwargs |= reader.arguments
        forks = Forks(
            model=model,
            policy=policy,
            processors=processors,
            reader=reader,
            ends=generation_config._eos_token_tensor,  # noqa: SLF001
            max_length=stopping_criteria.max_length,
            branches=branches,
            branch_length=branch_length,
            resamples=resamples,
            rows=rows,
            device=device,
        )
        outputs = lm._prefill(input_ids, generation_config, model_kwargs)  # noqa: SLF001
        while True:
            model_kwargs = lm._update_model_kwargs_for_generation(outputs, model_kwargs)  # noqa: SLF001
            # a copy: the outputs of a long prompt are large
            logits = outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=device)
            # first: a processor may call the model itself
            signals = reader.read(outputs)
            scores = processors(input_ids, logits)
            result = step(scores, state, policy=policy, attention=signals)
            result = forks.follow(
                result,
                scores=scores,
                before=state,
                signals=signals,
                input_ids=input_ids,
                model_kwargs=model_kwargs,
                unfinished=unfinished,
            )
            state = result.state
            trace.append(result)
            lengths += unfinished
            if returned and generation_config.output_logits:
                kept.append(logits)
            if callback is not None:
                callback(_records(policy, result, unfinished, len(trace) - 1))
            token = _padded(result.token, unfinished, generation_config)
            input_ids = torch.cat([input_ids, token.unsqueeze(-1)], dim=-1)
            unfinished = unfinished & ~stopping_criteria(input_ids, None)
            if not bool(unfinished.any()):
                break
            outputs = lm(
                **lm.prepare_inputs_for_generation(
                    input_ids,
                    next_sequence_length=1 if model_kwargs["use_cache"] else None,
                    **model_kwargs,
                ),
                return_dict=True,
            )
    if not returned:
        return input_ids
    whole = lengths.tolist()
    return EntropicOutput(
        sequences=input_ids,
        records=[record for record in trace.records() if record.step < whole[record.row]],
        logits=tuple(kept) or None,
        past_key_values=model_kwargs.get("past_key_values"),
    )


def _check(model: PreTrainedModel, generation_config: GenerationConfig) -> None:
    if generation_config.num_beams != 1:
        raise ArgumentError(
            f"`num_beams` must be 1 with a policy, got {generation_config.num_beams}. For beams "
            "use `EntropicLogitsProcessor`."
        )
    if model.config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{type(model).__name__} has an encoder and a decoder; `gibbsian_generate` runs "
            "decoders. Use `EntropicLogitsProcessor`."
        )


def _padded(token: Tensor, unfinished: Tensor, generation_config: GenerationConfig) -> Tensor:
    pad = generation_config._pad_token_tensor  # noqa: SLF001
    return token if pad is None else torch.where(unfinished, token, pad.to(token))


def _records(
    policy: Policy, result: StepResult, unfinished: Tensor, number: int
) -> list[TokenRecord]:
    trace = Trace(policy)
    trace.append(result)
    going = unfinished.tolist()
    return [replace(r, step=number) for r in trace.records() if going[r.row]]
