"""Cases of linear log-normal attention, beside the linear attentions of other packages."""

from collections.abc import Iterator
from itertools import product

from torch import Tensor

from gibbsian.attention import lln_attention, lln_diag_attention
from gibbsian.experiments.bench import peers
from gibbsian.experiments.bench.case import Case, Contender, Mode, Operation, Ratio, Tensors
from gibbsian.experiments.bench.cases_attention import GAUSSIAN_STD, SDPA, against
from gibbsian.experiments.bench.references import lln_rows
from gibbsian.experiments.bench.shapes import Shapes
from gibbsian.experiments.bench.tensors import attention_tensors

_BLOCK = 64
_LIMITS = {1024: (0.20, 0.15), 4096: (0.05, 0.03), 8192: (0.03, 0.02)}
_CAUSAL_LIMITS = {4096: (0.25, None), 16384: (0.08, None)}
_NO_LIMITS = (None, None)
_QKV = ("query", "key", "value")
_OTHER = "another attention: no truth to compare with"


def lln(*, is_causal: bool = False) -> Contender:
    """`lln_attention`, scales matched to the input (causal: to variance 1)."""

    def prepare(tensors: Tensors) -> Operation:
        q, k, v = (tensors[name] for name in _QKV)
        return peers.on(tensors, lambda: lln_attention(q, k, v, is_causal=is_causal), *_QKV)

    return Contender(name="LLN", prepare=prepare, reference=lln_rows(is_causal=is_causal))


def lln_diag(*, is_causal: bool = False) -> Contender:
    """`lln_diag_attention` with blocks of 64."""

    def prepare(tensors: Tensors) -> Operation:
        q, k, v = (tensors[name] for name in _QKV)

        def call() -> Tensor:
            return lln_diag_attention(q, k, v, is_causal=is_causal, block_size=_BLOCK)

        return peers.on(tensors, call, *_QKV)

    return Contender(
        name="LLN+Diag",
        prepare=prepare,
        reference=lln_rows(is_causal=is_causal, block_size=_BLOCK),
    )


def _linear_peers() -> tuple[Contender, ...]:
    handed = f"{_OTHER}; a layer, its projections replaced by the given tensors"
    return (
        Contender(
            name="linear-attention-transformer",
            prepare=peers.linear_attention(),
            package="linear-attention-transformer",
            note=_OTHER,
        ),
        Contender(
            name="performer-pytorch",
            prepare=peers.performer,
            package="performer-pytorch",
            note=f"{_OTHER}; its default number of random features",
        ),
        Contender(
            name="nystrom-attention",
            prepare=peers.nystrom,
            package="nystrom-attention",
            note=f"{handed}; 64 landmarks, no convolution",
        ),
        Contender(
            name="transformers Nystromformer",
            prepare=peers.nystromformer,
            package="transformers",
            note=f"{handed}; 64 landmarks, no convolution",
        ),
        Contender(
            name="linformer",
            prepare=peers.linformer,
            package="linformer",
            note=f"{handed}; rank 256",
        ),
    )


def lln_cases(shapes: Shapes) -> Iterator[Case]:
    """LLN over SDPA, bidirectional and causal, and LLN+Diag over LLN."""
    modes: tuple[Mode, ...] = ("forward", "gradients")
    for mode, size in product(modes, shapes.linear):
        contenders = (lln(), SDPA(), *_linear_peers())
        bar, aim = _LIMITS.get(size, _NO_LIMITS)
        yield _case(
            shapes,
            name="lln",
            title="LLN",
            size=size,
            mode=mode,
            contenders=contenders,
            ratios=against(contenders, "torch SDPA", bar=bar, aim=aim),
        )
    for size in shapes.linear_causal:
        contenders = (lln(is_causal=True), SDPA(is_causal=True), _CAUSAL_PEER)
        bar, aim = _CAUSAL_LIMITS.get(size, _NO_LIMITS)
        yield _case(
            shapes,
            name="lln-causal",
            title="LLN, causal",
            size=size,
            mode="gradients",
            contenders=contenders,
            ratios=against(contenders, "torch SDPA", bar=bar, aim=aim),
        )
    for mode, size in product(modes, shapes.linear):
        yield _case(
            shapes,
            name="lln-diag",
            title="LLN+Diag over LLN",
            size=size,
            mode=mode,
            contenders=(lln_diag(), lln()),
            ratios=(Ratio(of="LLN+Diag", to="LLN", bar=1.5, aim=1.15),),
        )


_CAUSAL_PEER = Contender(
    name="linear-attention-transformer",
    prepare=peers.linear_attention(is_causal=True),
    package="linear-attention-transformer",
    note=f"{_OTHER}; blind to its own bucket of 64",
)


def _case(
    shapes: Shapes,
    *,
    name: str,
    title: str,
    size: int,
    mode: Mode,
    contenders: tuple[Contender, ...],
    ratios: tuple[Ratio, ...],
) -> Case:
    what = "forward and backward" if mode == "gradients" else "forward"
    return Case(
        name=f"{name}-{mode}-{size}",
        group=f"{title}, {what}",
        size=size,
        tensors=attention_tensors(
            heads=shapes.heads, head_dim=shapes.head_dim, score_std=GAUSSIAN_STD
        ),
        contenders=contenders,
        ratios=ratios,
        mode=mode,
        differentiated=_QKV,
    )
