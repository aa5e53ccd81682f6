"""The attentions a comparison can name, e.g. `entmax:zeta=0.5`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gibbsian._errors import ArgumentError


def _softmax(heads: int) -> None:
    """The model's own scaled_dot_product_attention."""


FACTORIES: dict[str, Callable[..., Any]] = {"softmax": _softmax}
"""Name -> factory: the number of heads, then the parameters a user may give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionChoice:
    """An attention by name, with its parameters."""

    name: str
    """Key of `FACTORIES`."""
    parameters: dict[str, Any]
    """Parameters that were given."""

    def build(self, heads: int) -> Any:
        """The attention for layers of so many heads.

        Raises:
            ArgumentError: a parameter is out of its range.
        """
        return FACTORIES[self.name](heads, **self.parameters)


def parse_attention(spec: str) -> AttentionChoice:
    """`name` or `name:parameter=value,...`.

    Raises:
        ArgumentError: the name or a parameter is unknown, or a value is not of its type.
    """
    name, _, rest = spec.partition(":")
    if name not in FACTORIES:
        raise ArgumentError(f"`attention` must be one of {', '.join(FACTORIES)}, got {name!r}.")
    known = {
        p.name: p.default for p in list(inspect.signature(FACTORIES[name]).parameters.values())[1:]
    }
    parameters: dict[str, Any] = {}
    for item in rest.split(",") if rest else ():
        key, equals, value = item.partition("=")
        if not equals or key not in known:
            allowed = ", ".join(f"{k}={v}" for k, v in known.items()) or "none"
            raise ArgumentError(
                f"`attention` {name!r} has the parameters {allowed}; got {item!r}. "
                f"Write {name}:parameter=value,..."
            )
        kind = type(known[key])
        try:
            parameters[key] = kind(value)
        except ValueError:
            raise ArgumentError(
                f"`attention` {name!r}: {key} must be of type {kind.__name__}, got {value!r}."
            ) from None
    return AttentionChoice(name=name, parameters=parameters)
