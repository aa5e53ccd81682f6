"""Tokens of given rows of logits, one thread a block of rows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.numerics.cpu.simd import KEY_BLOCK
from gibbsian.numerics.cpu.threads import num_workers, run
from gibbsian.sampling.cpu import layout
from gibbsian.sampling.cpu.row import BLOCK, take_task
from gibbsian.sampling.decision import Decision
from gibbsian.sampling.filters.temperature import HOTTEST

_STATES_A_TASK = 1 << 16
_NOTHING = np.empty((0, 0))
_NO_ROWS = np.empty((0, 0), np.float32)


def take_rows(
    rows: Tensor,
    largest: Tensor,
    log_total: Tensor,
    decision: Decision,
    seed: Tensor,
    count: Tensor,
    uniform: Tensor | None,
) -> tuple[Any, Any, Any]:
    """A token of each row.

    Args:
        rows: contiguous float32 logits (rows, states).
        largest: of each row.
        log_total: log of the sum of weights relative to it.
        decision: one that the kernels can follow.
        seed: of each row's stream.
        count: how many tokens the row has drawn.
        uniform: float64 (rows, draws); None = the streams' own.

    Returns:
        Integers and numbers, arrays whose rows `layout` names, and the uniform numbers.
    """
    integers = np.empty((layout.NUM_INTEGERS, rows.shape[0]), np.int64)
    integers[layout.SEED], integers[layout.COUNT] = seed.numpy(), count.numpy()
    own = uniform is None
    drawn = np.empty((rows.shape[0], decision.candidates)) if uniform is None else uniform.numpy()
    given = _parameters(rows, largest, log_total, decision)
    numbers = _run(rows, given, decision, integers, drawn, own, _NO_ROWS)
    return integers, numbers, drawn


def filter_rows(rows: Tensor, decision: Decision) -> tuple[Tensor, Any]:
    """Tempered scores of the pools, -inf elsewhere, and 1 for each row in which one is doubtful."""
    integers = np.zeros((layout.NUM_INTEGERS, rows.shape[0]), np.int64)
    filtered = torch.empty_like(rows)
    largest = rows.amax(dim=-1)
    given = _parameters(rows, largest, torch.zeros_like(largest), decision)
    _run(rows, given, decision, integers, _NOTHING, False, filtered.numpy())
    return filtered, integers[layout.DOUBTFUL]


def _run(
    rows: Tensor,
    given: Any,
    decision: Decision,
    integers: Any,
    uniform: Any,
    own_stream: bool,
    filtered: Any,
) -> Any:
    count, states = rows.shape
    integers[layout.FORCED] = -1
    inserting = decision.inserting(rows)
    if inserting is not None:
        integers[layout.FORCED, inserting.numpy()] = decision.insert_token
    rows_a_task = max(1, _STATES_A_TASK // states)
    tasks = -(-count // rows_a_task)
    workers = num_workers(tasks)
    padded = -(-states // KEY_BLOCK) * KEY_BLOCK
    numbers = np.empty((layout.NUM_NUMBERS, count), np.float32)
    arguments = (
        rows.numpy(),
        given,
        integers,
        numbers,
        uniform,
        own_stream,
        filtered,
        np.empty((workers, 4, padded), np.float32),
        np.empty((workers, padded), np.int32),
        np.empty((workers, -(-states // BLOCK))),
    )
    if workers > 1:
        run(take_task, tasks, rows_a_task, *arguments)
    else:
        take_task(0, 0, count, *arguments)
    return numbers


def _parameters(rows: Tensor, largest: Tensor, log_total: Tensor, decision: Decision) -> Any:
    given = np.empty((rows.shape[0], layout.NUM_PARAMETERS))
    given[:, layout.LARGEST], given[:, layout.LOG_TOTAL] = largest.numpy(), log_total.numpy()
    temperature = decision.temperature
    if decision.target_entropy is not None:
        temperature = decision.solver().temperature(rows)
    given[:, layout.TEMPERATURE] = np.minimum(np.asarray(_array(temperature, 1.0), float), HOTTEST)
    top_k = _array(decision.top_k, np.inf)
    if isinstance(decision.top_k, Tensor) and decision.top_k_bound is not None:
        top_k = np.minimum(top_k, decision.top_k_bound)
    given[:, layout.TOP_K] = top_k
    given[:, layout.TOP_P] = _array(decision.top_p, np.inf)
    given[:, layout.MIN_P] = _array(decision.min_p, 0.0)
    given[:, layout.EPSILON] = _array(decision.epsilon, 0.0)
    given[:, layout.HIGHEST] = 1.0
    if decision.epsilon is not None:
        # the sum that torch takes in float32 has an error, which decides what is above epsilon
        given[:, layout.HIGHEST] = rows.softmax(dim=-1).numpy().max(axis=-1)
    given[:, layout.ZETA] = -1.0
    if decision.zeta is not None:
        given[:, layout.ZETA] = np.clip(_array(decision.zeta, 0.0), 0.0, 1.0)
    given[:, layout.CONFIDENCE] = _array(decision.confidence, 1.0)
    expected = decision.expected_surprisal
    given[:, layout.TYPICALITY] = 0.0 if expected is None else _array(decision.typicality, 0.0)
    given[:, layout.EXPECTED] = _array(expected, 0.0)
    return given


def _array(value: Any, neutral: float) -> Any:
    """A parameter as numpy takes it."""
    if isinstance(value, Tensor):
        return (value.detach() if value.requires_grad else value).numpy()
    return neutral if value is None else value
