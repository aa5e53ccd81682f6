"""No speed without a right result: operations are compared with float64 before they are timed."""

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
    run_once,
)

SAMPLED_ROWS = 32
"""Rows that are compared, the first and the last among them."""


def verify(case: Case, contender: Contender, operation: Operation, tensors: Tensors) -> Check:
    """Compare what is timed, on the tensors it is timed on, with the truth in float64.

    Only some rows are compared, so that the truth is affordable at any size. Gradients are exact
    nevertheless: they are taken of a loss that looks at those rows only, and compared in full.

    Args:
        case: says what is computed.
        contender: has the truth, and the bound.
        operation: the contender with its tensors.
        tensors: the same ones.
    """
    if contender.check is not None:
        return contender.check()
    with torch.no_grad():
        shapes = operation.call()
    if contender.reference is None:
        return _plausible(run_once(operation, case.mode, random_cotangents(shapes)))
    rows = sampled_rows(shapes[0].shape[contender.row_dim])
    cotangents = tuple(_only(c, rows, contender.row_dim) for c in random_cotangents(shapes))
    found = run_once(operation, case.mode, cotangents)
    found = (
        *(o.index_select(contender.row_dim, rows) for o in found[: len(shapes)]),
        *found[len(shapes) :],
    )
    doubles = {
        name: t.detach().double().requires_grad_(t.requires_grad) if t.is_floating_point() else t
        for name, t in tensors.items()
    }
    with torch.set_grad_enabled(case.mode == "gradients"):
        expected = contender.reference(doubles, rows)
    if case.mode == "gradients":
        taken = torch.autograd.grad(
            expected,
            [doubles[name] for name in operation.leaves],
            tuple(c.index_select(contender.row_dim, rows).double() for c in cotangents),
        )
        expected = (*(e.detach() for e in expected), *taken)
    return Check(
        error=max(map(relative_error, found, expected)),
        bound=contender.bound,
        against=f"float64, {len(rows)} rows",
    )


def sampled_rows(count: int, wanted: int = SAMPLED_ROWS) -> Tensor:
    """Numbers of the rows that are looked at, ascending, the first and the last among them."""
    generator = torch.Generator().manual_seed(2)
    chosen = torch.randperm(count, generator=generator)[: wanted - 2]
    rows: Tensor = torch.cat((chosen, torch.tensor([0, count - 1]))).unique()
    return rows


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest error over largest true value; NaN if there is one on either side."""
    error = (actual.detach().double() - expected.detach().double()).abs().max()
    return float(error / expected.detach().double().abs().max().clamp_min(1e-300))


def _plausible(results: Outputs) -> Check:
    good = all(bool(r.isfinite().all()) and bool(r.any()) for r in results)
    return Check(error=0.0 if good else float("nan"), bound=0.0, against="finite and not zero only")


def _only(cotangent: Tensor, rows: Tensor, dim: int) -> Tensor:
    kept = torch.zeros_like(cotangent)
    return kept.index_copy(dim, rows, cotangent.index_select(dim, rows))
