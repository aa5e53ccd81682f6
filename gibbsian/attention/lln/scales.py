"""From a declared choice of moments to the two scales of one call."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gibbsian._dispatch import is_watched
from gibbsian._errors import ArgumentError
from gibbsian.attention.lln.inputs import LLNInputs
from gibbsian.attention.lln.matching import matched_scales
from gibbsian.attention.lln.moments import (
    MomentScope,
    RunningVariances,
    element_variance,
    moment_scope,
)
from gibbsian.numerics.masked import working_dtype

Scales = tuple[Tensor, Tensor]
"""`(query_scale, key_scale)`, each broadcastable to (batch, heads)."""

_POOLED = {"head": (-2, -1), "running": (0, -2, -1), "tensor": (0, 1, -2, -1)}


def fixed_scales(
    inputs: LLNInputs, query_scale: float | Tensor | None, key_scale: float | Tensor | None
) -> Scales | None:
    """The scales that were given, None if neither was.

    Raises:
        ArgumentError: only one was given, it is a number <= 0, or a tensor does not broadcast.
    """
    if query_scale is None and key_scale is None:
        return None
    checked = []
    for name, given in (("query_scale", query_scale), ("key_scale", key_scale)):
        if given is None:
            raise ArgumentError(
                f"`{name}` must be given when the other scale is, got None. "
                "Give both, or neither for moment matching."
            )
        if isinstance(given, Tensor):
            scale = given
        else:
            check_scale(name, given)
            dtype = working_dtype(inputs.query)
            scale = torch.tensor(given, dtype=dtype, device=inputs.query.device)
        try:
            scale.expand(inputs.query.shape[:2])
        except RuntimeError:
            raise ArgumentError(
                f"`{name}` must broadcast to (batch, heads) {tuple(inputs.query.shape[:2])}, got "
                f"{tuple(scale.shape)}. One a head has shape (heads,)."
            ) from None
        checked.append(scale)
    return checked[0], checked[1]


def check_scale(name: str, scale: float) -> None:
    """Raise `ArgumentError` unless the number can be a scale."""
    if not scale > 0:
        raise ArgumentError(f"`{name}` must be > 0, got {scale}. Values near 2 are usual.")


def unit_scales(inputs: LLNInputs) -> Scales:
    """Scales matched to queries and keys of variance 1, whatever the input holds."""
    one = torch.ones((), dtype=working_dtype(inputs.query), device=inputs.query.device)
    return _matched(inputs, one, one)


def input_scales(inputs: LLNInputs, moments: MomentScope) -> Scales:
    """Scales matched to the moments of the input itself; differentiable.

    Raises:
        ArgumentError: moments a head under causality, where they would show the future.
    """
    if moments == "head" and inputs.mask.causal_offset is not None:
        raise ArgumentError(
            '`moments` must not be "head" for causal attention, whose rows may not depend on later '
            'positions; got a causal call. Use moments="running", or give the scales.'
        )
    return _matched(inputs, *input_variances(inputs, moments))


def default_scales(
    inputs: LLNInputs, query_scale: float | Tensor | None, key_scale: float | Tensor | None
) -> Scales:
    """Scales of a call without a module: those given, else matched to what causality allows.

    Raises:
        ArgumentError: as `fixed_scales`.
    """
    fixed = fixed_scales(inputs, query_scale, key_scale)
    if fixed is not None:
        return fixed
    if inputs.mask.causal_offset is not None:
        return unit_scales(inputs)
    return input_scales(inputs, "head")


def input_variances(
    inputs: LLNInputs, moments: MomentScope
) -> tuple[Float[Tensor, "#batch #heads"], Float[Tensor, "#batch #heads"]]:
    """Variances of queries and keys over the visible positions that `moments` pools."""
    dtype, over = working_dtype(inputs.query), _POOLED[moments]
    mask = inputs.mask
    if inputs.compiled and moments != "tensor":
        return _compiled_variances(inputs, pooled=moments == "running")
    query = element_variance(inputs.query.to(dtype), mask.present_queries(), over=over)
    key = element_variance(inputs.key.to(dtype), mask.present, over=over)
    return query[..., 0, 0], key[..., 0, 0]


def _compiled_variances(
    inputs: LLNInputs, *, pooled: bool
) -> tuple[Float[Tensor, "#batch heads"], Float[Tensor, "#batch heads"]]:
    """`element_variance` of each sample and head; pooled over the samples without a graph."""
    # numba takes half a second to import: only where it is used
    from gibbsian.attention.lln.cpu.moments import (  # noqa: PLC0415
        lln_moments,
        measure_moments,
    )

    query, key = inputs.query.float(), inputs.key.float()
    present = [
        None if rows is None else rows.expand(elements.shape[:-1])
        for rows, elements in ((inputs.mask.present_queries(), query), (inputs.mask.present, key))
    ]
    variances: Tensor
    measure = lln_moments if is_watched(query, key) else measure_moments
    variances, means, counts = measure(query, key, *present)
    if pooled:
        shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
        deviations = means - (shares * means).sum(dim=1, keepdim=True)
        variances = (shares * (variances + deviations.square())).sum(dim=1, keepdim=True)
        variances = variances.float().detach()
    query_variance, key_variance = variances
    return query_variance, key_variance


def _matched(inputs: LLNInputs, query_variance: Tensor, key_variance: Tensor) -> Scales:
    factor = inputs.query_factor
    if inputs.compiled and not is_watched(query_variance, key_variance):
        from gibbsian.attention.lln.cpu.matching import match_at_once  # noqa: PLC0415 (as above)

        return match_at_once(query_variance, key_variance, factor, inputs.head_dim)
    if factor != 1:
        query_variance = query_variance * factor**2
    return matched_scales(query_variance, key_variance, head_dim=inputs.head_dim)


class MatchedScales(nn.Module):
    """The scales of an attention layer: fixed, or matched to declared moments.

    Args:
        moments: "running", "head" or "tensor" (`MomentScope`).
        momentum: weight of a new batch in running variances, in (0, 1].
        query_scale: fixed scale of the queries; with `key_scale`, replaces moment matching.
        key_scale: fixed scale of the keys.
    """

    def __init__(
        self,
        *,
        moments: str = "running",
        momentum: float = 0.1,
        query_scale: float | None = None,
        key_scale: float | None = None,
    ) -> None:
        super().__init__()
        if (query_scale is None) != (key_scale is None):
            raise ArgumentError(
                "`query_scale` and `key_scale` must be given together, got "
                f"{query_scale} and {key_scale}. Give neither for moment matching."
            )
        for name, scale in (("query_scale", query_scale), ("key_scale", key_scale)):
            if scale is not None:
                check_scale(name, scale)
        self.moments = moment_scope(moments)
        self.momentum = momentum
        self.query_scale = query_scale
        self.key_scale = key_scale
        matched = query_scale is None and self.moments == "running"
        self.running = RunningVariances(momentum=momentum) if matched else None

    def forward(self, inputs: LLNInputs) -> Scales:
        """Scales of this call. In training, running variances then note the batch for the next."""
        fixed = fixed_scales(inputs, self.query_scale, self.key_scale)
        if fixed is not None:
            return fixed
        if self.running is None:
            return input_scales(inputs, self.moments)
        if self.training:
            with torch.no_grad():
                query_variance, key_variance = input_variances(inputs, "running")
            self.running.observe(query_variance[0], key_variance[0])
        query_variance, key_variance = self.running(inputs.query.shape[1])
        return _matched(inputs, query_variance, key_variance)

    def options(self) -> dict[str, str | float | None]:
        """The arguments that build it again."""
        return {
            "moments": self.moments,
            "momentum": self.momentum,
            "query_scale": self.query_scale,
            "key_scale": self.key_scale,
        }
