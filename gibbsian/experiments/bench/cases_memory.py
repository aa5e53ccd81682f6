"""Peak memory of each operation at one long length."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from gibbsian.experiments.bench.case import Case, Contender, Ratio
from gibbsian.experiments.bench.cases_attention import (
    GAUSSIAN_STD,
    SDPA,
    SPARSE_STD,
    aes,
    sparse_facts,
)
from gibbsian.experiments.bench.cases_lln import lln, lln_diag
from gibbsian.experiments.bench.cases_rows import statistics_contender
from gibbsian.experiments.bench.shapes import Shapes
from gibbsian.experiments.bench.tensors import attention_tensors
from gibbsian.normalizers.schedules import Constant, SmoothStep

LIMIT_BYTES = 10**9
"""What an operation may need beyond its inputs; the results count."""


def memory_cases(shapes: Shapes) -> Iterator[Case]:
    """Peak growth beyond the inputs, each contender in a process of its own."""
    base = Case(
        name="",
        group="",
        size=shapes.memory,
        tensors=attention_tensors(
            heads=shapes.heads, head_dim=shapes.head_dim, score_std=GAUSSIAN_STD
        ),
        contenders=(),
        quantity="bytes",
        bar_bytes=LIMIT_BYTES,
        differentiated=("query", "key", "value"),
    )
    sparse = replace(
        base,
        tensors=attention_tensors(
            heads=shapes.heads, head_dim=shapes.head_dim, score_std=SPARSE_STD
        ),
        facts=partial(sparse_facts, is_causal=False),
    )

    def case(kind: Case, name: str, title: str, *contenders: Contender, grad: bool = False) -> Case:
        return replace(
            kind,
            name=f"memory-{name}-{shapes.memory}",
            group=f"Peak memory: {title}",
            contenders=contenders,
            ratios=tuple(Ratio(of=contenders[0].name, to=c.name) for c in contenders[1:]),
            mode="gradients" if grad else "forward",
        )

    schedule, zero = SmoothStep(), Constant(zeta=0.0)
    yield case(sparse, "aes-sparse-forward", "AES forward", aes(schedule), SDPA())
    causal = replace(sparse, facts=partial(sparse_facts, is_causal=True))
    yield case(
        causal, "aes-sparse-forward-causal", "AES forward, causal", aes(schedule, is_causal=True)
    )
    yield case(base, "aes-dense-forward", "AES forward, all rows dense", aes(zero))
    yield case(
        sparse,
        "aes-sparse-gradients-detached",
        "AES forward and backward, detached statistics",
        aes(schedule, detach_statistics=True),
        grad=True,
    )
    yield case(
        sparse,
        "aes-sparse-gradients-exact",
        "AES forward and backward, exact",
        aes(schedule),
        SDPA(),
        grad=True,
    )
    yield case(base, "lln-forward", "LLN forward", lln())
    yield case(base, "lln-gradients", "LLN forward and backward", lln(), grad=True)
    yield case(
        base,
        "lln-causal-gradients",
        "LLN forward and backward, causal",
        lln(is_causal=True),
        grad=True,
    )
    yield case(base, "lln-diag-gradients", "LLN+Diag forward and backward", lln_diag(), grad=True)
    yield case(
        base,
        "lln-diag-causal-gradients",
        "LLN+Diag forward and backward, causal",
        lln_diag(is_causal=True),
        grad=True,
    )
    title = "S, V, log Z of all rows"
    yield case(base, "statistics", title, statistics_contender(is_causal=False))
    yield case(base, "statistics-causal", f"{title}, causal", statistics_contender(is_causal=True))
