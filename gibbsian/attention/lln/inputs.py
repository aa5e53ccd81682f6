"""What an LLN call works on: a key head for each query head, and its mask in linear form."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from gibbsian._dispatch import Backend, runs_on_cpu_kernels
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.attention.lln.masks import LinearMask, linear_mask
from gibbsian.numerics.masked import working_dtype


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LLNInputs:
    """Checked inputs. Absent keys and values are finite."""

    query: Float[Tensor, "batch heads queries head_dim"]
    key: Float[Tensor, "batch heads keys head_dim"]
    value: Float[Tensor, "batch heads keys value_dim"]
    mask: LinearMask
    scale: float
    """Factor of the softmax scores that LLN imitates."""
    dropout_p: float
    """Probability with which a key is dropped from the numerators of its head, in [0, 1)."""
    compiled: bool
    """Whether the CPU kernels run this call."""

    @classmethod
    def of(
        cls, inputs: AttentionInputs, *, backend: Backend = "auto", obstacles: tuple[str, ...] = ()
    ) -> "LLNInputs":
        """Split the mask, repeat grouped keys, choose the implementation.

        A repeated key costs no more than the query head that it serves, and gets the scale that
        matches that head.

        Args:
            inputs: checked.
            backend: what the caller asked for.
            obstacles: reasons why the CPU kernels cannot run, each a clause.

        Raises:
            ArgumentError: a mask without linear form, or an unknown backend.
            BackendUnavailableError: the backend asked for cannot run this call.
        """
        key, value = inputs.key, inputs.value
        if value.shape[-1] == 0:
            obstacles = (*obstacles, "a value has no channel")
        if inputs.group > 1:
            key = key.repeat_interleave(inputs.group, dim=1)
            value = value.repeat_interleave(inputs.group, dim=1)
        return cls(
            query=inputs.query,
            key=key,
            value=value,
            mask=linear_mask(inputs),
            scale=inputs.scale,
            dropout_p=inputs.dropout_p,
            compiled=runs_on_cpu_kernels(
                backend, inputs.query, inputs.key, inputs.value, obstacles=obstacles
            ),
        )

    @property
    def head_dim(self) -> int:
        """Size of a query and of a key, d."""
        return self.query.shape[-1]

    @property
    def query_factor(self) -> float:
        r"""Scale times $\sqrt d$: a score scale other than $1/\sqrt d$ acts as on the queries."""
        return float(self.scale * self.head_dim**0.5)

    def log_features(
        self, query_scale: Float[Tensor, "..."], key_scale: Float[Tensor, "..."]
    ) -> tuple[
        Float[Tensor, "batch heads queries head_dim"], Float[Tensor, "batch heads keys head_dim"]
    ]:
        r"""$a = \alpha\,q$ and $b = \beta\,k$, in float32 or wider.

        Args:
            query_scale: broadcastable to (batch, heads).
            key_scale: the same.
        """
        dtype = working_dtype(self.query)
        query_scale = query_scale.to(dtype)[..., None, None] * self.query_factor
        key_scale = key_scale.to(dtype)[..., None, None]
        return self.query.to(dtype) * query_scale, self.key.to(dtype) * key_scale
