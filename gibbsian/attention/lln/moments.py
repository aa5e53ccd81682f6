r"""Which queries and keys decide the variances $\sigma_q^2$, $\sigma_k^2$ of moment matching.

The choice decides who can see whom (docs/decisions/0101-lln-moments.md): a variance taken over
positions carries each of them to all outputs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gibbsian._errors import ArgumentError

MomentScope = Literal["head", "tensor", "running"]
"""Where the variances come from.

- `"running"`: running estimates for each head, from earlier training batches. The input itself has
  no part in them: safe for causal use, and for samples and padding in any use.
- `"head"`: each sample and head of the input, over its visible positions. Not for causal use.
- `"tensor"`: the whole input, as the published code does. One sample, and the future, change the
  outputs of others; for comparisons with that code only.
"""


def moment_scope(name: str) -> MomentScope:
    """The scope of this name, as a configuration gives it; any other raises `ArgumentError`."""
    for scope in get_args(MomentScope):
        if name == scope:
            return cast(MomentScope, scope)
    raise ArgumentError(
        f'`moments` must be "running", "head" or "tensor", got {name!r}. '
        '"running" is safe for causal use.'
    )


def element_variance(
    elements: Float[Tensor, "batch heads positions head_dim"],
    present: Bool[Tensor, "#batch #heads #positions"] | None = None,
    *,
    over: tuple[int, ...] = (-2, -1),
) -> Float[Tensor, "#batch #heads 1 1"]:
    """Population variance of the elements at the present positions; 0 where there is none.

    Args:
        elements: queries or keys.
        present: True = the position counts. None = all.
        over: dimensions that are pooled: each sample and head by default, (0, -2, -1) a head over
            the batch, (0, 1, -2, -1) everything.
    """
    if elements.numel() == 0:
        return elements.sum(dim=over, keepdim=True)
    if present is None:
        # twice as many passes as `Tensor.var`, which is several times slower on a CPU
        return (elements - elements.mean(dim=over, keepdim=True)).square().mean(over, keepdim=True)
    counted = present.unsqueeze(-1).expand(elements.shape)
    count = counted.sum(dim=over, keepdim=True).clamp_min(1)
    mean = torch.where(counted, elements, 0.0).sum(dim=over, keepdim=True) / count
    deviation = torch.where(counted, elements - mean, 0.0)
    return deviation.square().sum(dim=over, keepdim=True) / count


class RunningVariances(nn.Module):
    """Running variances of queries and keys, head by head, that lag one training batch behind.

    The first batch is served with variance 1; after it the average over batches so far is used
    until `momentum` takes over. Buffers, so saved with the model; they are empty until the first
    batch. They stay float32 or wider in a model of narrow dtype: an average could not follow small
    changes in bfloat16.

    A batch joins the averages when the next one arrives. Its own forward pass therefore never sees
    it (position by position that would show it the future), and a second pass over the same batch,
    as gradient checkpointing makes, finds the same variances as the first.
    """

    variances: Float[Tensor, "two heads"]
    pending: Float[Tensor, "two heads"]
    num_batches: Int[Tensor, ""]

    def __init__(self, *, momentum: float = 0.1) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ArgumentError(
                f"`momentum` must be in (0, 1], got {momentum}. Use 0.1 to average ten batches."
            )
        self.momentum = momentum
        self.register_buffer("variances", torch.empty(2, 0, dtype=torch.float32))
        self.register_buffer("pending", torch.empty(2, 0, dtype=torch.float32))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))

    def forward(self, heads: int) -> tuple[Float[Tensor, "heads"], Float[Tensor, "heads"]]:
        """Variances of queries and keys as they stand; 1 before any batch has joined."""
        if self.variances.shape[1] == 0:
            one = self.variances.new_ones(heads)
            return one, one
        self._check(heads)
        query_variance, key_variance = self.variances.clone()
        return query_variance, key_variance

    @torch.no_grad()
    def observe(
        self, query_variance: Float[Tensor, "heads"], key_variance: Float[Tensor, "heads"]
    ) -> None:
        """Let the previous batch join the averages and keep this one for the next call."""
        batch = torch.stack([query_variance, key_variance]).to(self.variances)
        if self.variances.shape[1] == 0:
            self.variances = torch.ones_like(batch)
            self.pending = batch
            return
        self._check(batch.shape[1])
        # No branch on values: a device need not be waited for.
        joins = (self.pending != batch).any()
        count = self.num_batches + joins
        weight = (1.0 / count.clamp_min(1)).clamp_min(self.momentum)
        average = torch.lerp(self.variances, self.pending, weight.to(self.variances))
        # A batch that overflowed, or had no present position, teaches nothing.
        usable = joins & self.pending.isfinite().all() & (self.pending > 0).all()
        self.variances.copy_(torch.where(usable, average, self.variances))
        self.num_batches.copy_(torch.where(usable, count, self.num_batches))
        self.pending.copy_(batch)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RunningVariances":
        wide = {name: buffer for name, buffer in self.named_buffers() if name != "num_batches"}
        super()._apply(fn, recurse)
        for name, buffer in wide.items():
            moved = getattr(self, name)
            if moved.dtype.itemsize < buffer.dtype.itemsize and moved.dtype.itemsize < 4:
                setattr(self, name, buffer.to(moved.device))
        return self

    def _check(self, heads: int) -> None:
        if self.variances.shape[1] != heads:
            raise ArgumentError(
                f"`query` must have the {self.variances.shape[1]} heads whose running variances "
                f"are held, got {heads}. Give each layer a copy of the attention of its own."
            )

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # The number of heads is the checkpoint's to say.
        for name in ("variances", "pending"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                own = getattr(self, name)
                setattr(self, name, own.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
