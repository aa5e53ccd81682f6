"""What the operators compute in plain torch operations: what a second derivative is taken of."""

from collections.abc import Callable

from torch import Tensor

from gibbsian.attention.lln.masks import LinearMask
from gibbsian.attention.lln.plain import plain_lln


def differentiable_form(
    present: Tensor | None, causal_offset: int | None, block_size: int, scale: float
) -> Callable[..., Tensor]:
    """The function of query, key, value, query_scale and key_scale; arguments as the operators'."""

    def attend(*tensors: Tensor) -> Tensor:
        query, key, value, query_scale, key_scale = tensors
        mask = LinearMask(
            queries=query.shape[-2],
            keys=key.shape[-2],
            present=present,
            causal_offset=causal_offset,
        )
        return plain_lln(
            query,
            key,
            value,
            query_scale,
            key_scale,
            mask=mask,
            block_size=block_size,
            scale=scale,
        )

    return attend
