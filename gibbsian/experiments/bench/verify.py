"""No speed without a right result: operations are compared with float64 before they are timed."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.experiments.bench.case import (
    Case,
    Check,
    Contender,
    Operation,
    Outputs,
    Tensors,
    random_cotangents,
)

SAMPLED_ROWS = 32
"""Rows that are compared, the first and the last among them."""
ROW_FLOOR = 1e-2
"""What a row's largest value counts as at least, beside the largest of all rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What one call computed."""

    outputs: Outputs
    """Of the operation."""
    gradients: Outputs = ()
    """Of the leaves, where gradients are timed."""
    cotangents: Outputs = ()
    """The gradients of the outputs that those are taken with."""


def call_for_check(case: Case, contender: Contender, operation: Operation) -> Results:
    """Call once as it is timed, so that `verify` can judge what came out.

    Only some rows are compared, so that the truth is affordable at any size. Gradients are exact
    nevertheless: they are taken of a loss that looks at those rows only, and compared in full.
    """
    if case.mode == "forward":
        with torch.no_grad():
            return Results(outputs=operation.call())
    outputs = operation.call()
    if case.mode == "iteration":
        return Results(outputs=outputs)
    cotangents = random_cotangents(outputs)
    if contender.reference is not None:
        rows = sampled_rows(outputs[0].shape[contender.row_dim])
        cotangents = tuple(_only(c, rows, contender.row_dim) for c in cotangents)
    gradients = torch.autograd.grad(outputs, list(operation.leaves.values()), cotangents)
    return Results(
        outputs=tuple(o.detach() for o in outputs), gradients=gradients, cotangents=cotangents
    )


def verify(
    case: Case, contender: Contender, operation: Operation, tensors: Tensors, results: Results
) -> Check:
    """Compare what was computed on the tensors that are timed with the truth in float64.

    Args:
        case: says what is computed.
        contender: has the truth, and the bound.
        operation: the contender with its tensors.
        tensors: the same ones.
        results: of `call_for_check`.
    """
    if contender.check is not None:
        return contender.check()
    if contender.reference is None:
        return _plausible((*results.outputs, *results.gradients))
    rows = sampled_rows(results.outputs[0].shape[contender.row_dim])
    found = [o.index_select(contender.row_dim, rows) for o in results.outputs]
    doubles = {
        name: t.detach().double().requires_grad_(t.requires_grad) if t.is_floating_point() else t
        for name, t in tensors.items()
    }
    with torch.set_grad_enabled(case.mode == "gradients"):
        expected = contender.reference(doubles, rows)
    errors = [row_error(f, e, contender.row_dim) for f, e in zip(found, expected, strict=True)]
    if case.mode == "gradients":
        taken = torch.autograd.grad(
            expected,
            [doubles[name] for name in operation.leaves],
            tuple(c.index_select(contender.row_dim, rows).double() for c in results.cotangents),
        )
        # Not row by row: a key at the edge of a support has a gradient that is rounding only.
        errors += map(relative_error, results.gradients, taken)
    return Check(
        error=largest(errors),
        bound=contender.bound,
        against=f"float64, {len(rows)} rows",
    )


def sampled_rows(count: int, wanted: int = SAMPLED_ROWS) -> Tensor:
    """Numbers of the rows that are looked at, ascending, the first and the last among them."""
    generator = torch.Generator().manual_seed(2)
    chosen = torch.randperm(count, generator=generator)[: wanted - 2]
    rows: Tensor = torch.cat((chosen, torch.tensor([0, count - 1]))).unique()
    return rows


def largest(errors: Iterable[float]) -> float:
    """The largest; NaN if one of them is NaN, which Python's `max` would drop."""
    return float(torch.tensor(list(errors), dtype=torch.float64).max())


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest error over largest true value; NaN if there is one on either side."""
    error = (actual.detach().double() - expected.detach().double()).abs().max()
    return float(error / expected.detach().double().abs().max().clamp_min(1e-300))


def row_error(actual: Tensor, expected: Tensor, row_dim: int) -> float:
    """Largest error of a row over the largest true value of that row; NaN if there is one.

    The last rows of causal attention average many values and are small beside the first, whose size
    must not excuse them. A row counts as at least `ROW_FLOOR` of the largest value of all rows: in
    smaller ones roundings are all that there is.
    """
    truth = expected.detach().double()
    error, size = (actual.detach().double() - truth).abs(), truth.abs()
    if row_dim < -1:
        inside = tuple(range(row_dim + 1, 0))
        error, size = error.amax(dim=inside), size.amax(dim=inside)
    floor = (ROW_FLOOR * size.max()).clamp_min(1e-300)
    return float((error / size.maximum(floor)).max())


def _plausible(results: Outputs) -> Check:
    good = all(bool(r.isfinite().all()) and bool(r.any()) for r in results)
    return Check(error=0.0 if good else float("nan"), bound=0.0, against="finite and not zero only")


def _only(cotangent: Tensor, rows: Tensor, dim: int) -> Tensor:
    kept = torch.zeros_like(cotangent)
    return kept.index_copy(dim, rows, cotangent.index_select(dim, rows))
