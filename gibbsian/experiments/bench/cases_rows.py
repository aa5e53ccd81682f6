"""Cases on rows of scores: entmax, and the statistics of attention rows."""

from collections.abc import Iterator

from gibbsian.attention import attention_row_statistics
from gibbsian.experiments.bench import peers
from gibbsian.experiments.bench.case import Case, Contender, Mode, Operation, Ratio, Tensors
from gibbsian.experiments.bench.cases_attention import GAUSSIAN_STD, SDPA, against
from gibbsian.experiments.bench.references import (
    entmax_rows,
    statistics_outputs,
    statistics_rows,
)
from gibbsian.experiments.bench.shapes import Shapes
from gibbsian.experiments.bench.tensors import attention_tensors, row_tensors
from gibbsian.normalizers import entmax

_SOFTMAX = "torch softmax"
_STDS = (1, 3)


def entmax_cases(shapes: Shapes) -> Iterator[Case]:
    """Entmax with an alpha of its own for every row."""
    modes: tuple[Mode, ...] = ("forward", "gradients")
    for mode in modes:
        for std in _STDS:
            yield _entmax_case(shapes, mode, std)


def _entmax_case(shapes: Shapes, mode: Mode, std: int) -> Case:
    gradients = mode == "gradients"
    contenders = (
        Contender(name="entmax", prepare=_ours, reference=entmax_rows()),
        Contender(name=_SOFTMAX, prepare=peers.softmax_of_rows, reference=entmax_rows(zeta=0.0)),
        Contender(
            name="entmax package: sparsemax",
            prepare=peers.entmax_sparsemax,
            reference=entmax_rows(zeta=1.0),
            package="entmax",
            note="alpha = 2 in every row",
        ),
        Contender(
            name="entmax package: entmax15",
            prepare=peers.entmax_15,
            reference=entmax_rows(zeta=0.5),
            package="entmax",
            note="alpha = 1.5 in every row",
        ),
        Contender(
            name="entmax package: entmax_bisect",
            prepare=peers.entmax_bisection,
            reference=entmax_rows(),
            # its d/d alpha divides roundings by (alpha - 1)^2
            bound=1e-3,
            package="entmax",
            note="the same alphas",
        ),
    )
    what = "and backward, d/d alpha included" if gradients else "forward"
    return Case(
        name=f"entmax-{mode}-std{std}-{shapes.states}",
        group=f"entmax of {shapes.rows} rows, an alpha for each, {what}, scores of std {std}",
        size=shapes.states,
        tensors=row_tensors(rows=shapes.rows, std=float(std)),
        contenders=contenders,
        ratios=against(contenders, _SOFTMAX, bar=8.0, aim=3.0),
        mode=mode,
        differentiated=("scores", "alpha"),
    )


def _ours(tensors: Tensors) -> Operation:
    scores, alpha = tensors["scores"], tensors["alpha"]
    return peers.on(tensors, lambda: entmax(scores, alpha - 1), "scores", "alpha")


def statistics_contender(*, is_causal: bool) -> Contender:
    """Entropy, varentropy and log Z of all rows, without an N x N tensor."""

    def prepare(tensors: Tensors) -> Operation:
        query, key = tensors["query"], tensors["key"]
        return Operation(
            call=lambda: statistics_outputs(
                attention_row_statistics(query, key, is_causal=is_causal)
            ),
            leaves={},
        )

    return Contender(
        name="row statistics",
        prepare=prepare,
        reference=statistics_rows(is_causal=is_causal),
        row_dim=-1,
    )


def statistics_cases(shapes: Shapes) -> Iterator[Case]:
    """Statistics of all rows of softmax attention, over the time of softmax attention."""
    for is_causal in (False, True):
        sdpa = SDPA(is_causal=is_causal)
        contenders = (statistics_contender(is_causal=is_causal), sdpa)
        kind = "-causal" if is_causal else ""
        for size in shapes.exact:
            yield Case(
                name=f"statistics{kind}-{size}",
                group=f"S, V, log Z of all rows{', causal' if is_causal else ''}",
                size=size,
                tensors=attention_tensors(
                    heads=shapes.heads, head_dim=shapes.head_dim, score_std=GAUSSIAN_STD
                ),
                contenders=contenders,
                ratios=(Ratio(of="row statistics", to=sdpa.name, bar=1.3, aim=1.1),),
            )
