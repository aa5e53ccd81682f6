"""Cases of attention that looks at all pairs: AES, forward, with gradients, and decoding."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from gibbsian.attention import aes_attention
from gibbsian.experiments.bench import peers
from gibbsian.experiments.bench.case import Case, Contender, Mode, Operation, Ratio, Tensors
from gibbsian.experiments.bench.decoders import exact_decoder, indexed_decoder
from gibbsian.experiments.bench.references import attention_rows
from gibbsian.experiments.bench.shapes import Shapes
from gibbsian.experiments.bench.tensors import attention_tensors
from gibbsian.experiments.bench.verify import sampled_rows
from gibbsian.normalizers.schedules import Constant, Schedule, SmoothStep

GAUSSIAN_STD = 1.0
"""Standard deviation of the scores where nothing has to be concentrated."""
SPARSE_STD = 2.8
"""The same where SmoothStep() has to leave at most 2 % of the keys: a little less than 2 %."""
DECODING_STD = 4.0
"""The same for the concentrated heads of decoding."""
_COUNTED_ROWS = 128
"""Rows of each head in which the support is counted."""
_SPARSE, _DENSE = SmoothStep(), Constant(zeta=0.0)


def SDPA(*, is_causal: bool = False) -> Contender:  # noqa: N802  (its name)
    """Torch's fused softmax attention."""
    return Contender(
        name="torch SDPA",
        prepare=peers.sdpa(is_causal=is_causal),
        reference=attention_rows(is_causal=is_causal),
    )


def against(
    contenders: Sequence[Contender],
    baseline: str,
    *,
    bar: float | None = None,
    aim: float | None = None,
) -> tuple[Ratio, ...]:
    """Every contender over one of them; the bar and the aim are for the first."""
    first = contenders[0].name
    return tuple(
        Ratio(of=c.name, to=baseline, bar=bar, aim=aim)
        if c.name == first
        else Ratio(of=c.name, to=baseline)
        for c in contenders
        if c.name != baseline
    )


def aes(
    schedule: Schedule, *, is_causal: bool = False, detach_statistics: bool = False
) -> Contender:
    """`aes_attention` as a user calls it."""

    def prepare(tensors: Tensors) -> Operation:
        q, k, v = (tensors[name] for name in ("query", "key", "value"))

        def call() -> Tensor:
            return aes_attention(
                q, k, v, schedule=schedule, is_causal=is_causal,
                detach_statistics=detach_statistics,
            )  # fmt: skip

        return peers.on(tensors, call, "query", "key", "value")

    return Contender(
        name="AES",
        prepare=prepare,
        reference=attention_rows(
            schedule, is_causal=is_causal, detach_statistics=detach_statistics
        ),
        # sharp rows amplify the roundings of scores of size 20
        bound=1e-4,
    )


def sparse_facts(tensors: Tensors, *, is_causal: bool) -> dict[str, float]:
    """Support of sampled rows in a sparse case, kept keys over visible keys, and mean zeta.

    In float64, which no fast kernel takes: the facts of a case do not hang on what it times.
    """
    query, key, value = (tensors[n].detach().double() for n in ("query", "key", "value"))
    rows = sampled_rows(query.shape[-2], _COUNTED_ROWS)
    mask = torch.arange(key.shape[-2]) <= rows.unsqueeze(-1) if is_causal else None
    with torch.no_grad():
        _, found = aes_attention(
            query[..., rows, :], key, value, schedule=_SPARSE, mask=mask, return_statistics=True
        )
    return {
        "mean support": float(found.support_size.sum() / found.num_keys.sum()),
        "mean zeta": float(found.zeta.mean()),
    }


def _aes_case(
    shapes: Shapes, size: int, mode: Mode, *, is_causal: bool, dense: bool, detached: bool = False
) -> Case:
    sdpa = SDPA(is_causal=is_causal)
    schedule: Schedule = _DENSE if dense else _SPARSE
    contenders = (aes(schedule, is_causal=is_causal, detach_statistics=detached), sdpa)
    rows = "all rows dense" if dense else "support at most 2 %"
    if mode == "forward":
        what, name, limits = "forward", "forward", (1.6, 1.2) if dense else (1.0, 0.6)
    elif detached:
        what, name, limits = (
            "forward and backward, detached statistics",
            "gradients-detached",
            (1.0, 0.6),
        )
    else:
        what, name, limits = "forward and backward, exact", "gradients-exact", (1.6, 1.2)
    causal = "-causal" if is_causal else ""
    return Case(
        name=f"aes-{'dense' if dense else 'sparse'}-{name}{causal}-{size}",
        group=f"AES {what}, {rows}{', causal' if is_causal else ''}",
        size=size,
        tensors=attention_tensors(
            heads=shapes.heads,
            head_dim=shapes.head_dim,
            score_std=GAUSSIAN_STD if dense else SPARSE_STD,
        ),
        contenders=contenders,
        ratios=against(contenders, sdpa.name, bar=limits[0], aim=limits[1]),
        mode=mode,
        differentiated=("query", "key", "value"),
        facts=None if dense else partial(sparse_facts, is_causal=is_causal),
    )


def aes_cases(shapes: Shapes) -> Iterator[Case]:
    """AES over SDPA: sparse and dense, forward and with gradients, bidirectional and causal."""
    for size in shapes.short:
        case = _aes_case(shapes, size, "forward", is_causal=False, dense=False)
        ratios = against(case.contenders, "torch SDPA")
        yield replace(case, group="AES forward, short rows", ratios=ratios)
    for dense, is_causal in product((False, True), (False, True)):
        for size in shapes.exact:
            yield _aes_case(shapes, size, "forward", is_causal=is_causal, dense=dense)
    for detached, is_causal in product((True, False), (False, True)):
        for size in shapes.exact:
            yield _aes_case(
                shapes, size, "gradients", is_causal=is_causal, dense=False, detached=detached
            )
    case = _aes_case(shapes, shapes.exact[0], "forward", is_causal=False, dense=False)
    # by itself: what it allocates slows down whatever runs beside it
    contenders = (case.contenders[0], _ENTMAX15)
    yield replace(
        case,
        name=f"aes-entmax-package-{shapes.exact[0]}",
        group="AES forward, beside the entmax package",
        contenders=contenders,
        ratios=against(contenders, _ENTMAX15.name),
    )


_ENTMAX15 = Contender(
    name="entmax package: entmax15",
    prepare=peers.entmax15_attention,
    reference=attention_rows(Constant(zeta=0.5)),
    bound=1e-4,
    package="entmax",
    note="alpha = 1.5 in every row; scores materialised",
)


def decoding_cases(shapes: Shapes) -> Iterator[Case]:
    """One query over a cache of keys and values."""
    contenders = (exact_decoder(_SPARSE), indexed_decoder(_SPARSE), SDPA())
    for size in (*shapes.short_cache, *shapes.cache):
        bar, aim = (0.6, 0.3) if size in shapes.cache else (None, None)
        yield Case(
            name=f"aes-decoding-{size}",
            group="AES decoding, one query, concentrated heads",
            size=size,
            tensors=attention_tensors(
                heads=shapes.heads, head_dim=shapes.head_dim, score_std=DECODING_STD, queries=1
            ),
            contenders=contenders,
            ratios=tuple(
                Ratio(of=c.name, to="torch SDPA", bar=bar, aim=aim) for c in contenders[:-1]
            ),
            facts=partial(sparse_facts, is_causal=False),
        )
