"""Names under which the attentions are known to transformers."""

from collections.abc import Mapping
from types import MappingProxyType

from gibbsian.attention import Attention
from gibbsian.attention.registry import ATTENTIONS

# No "/" (a hub kernel to transformers), nor "flash", "sdpa" or "flex_attention", which it looks
# for inside a name.
IMPLEMENTATIONS: Mapping[str, type[Attention]] = MappingProxyType(
    {f"gibbsian_{name.replace('-', '_')}": attention for name, attention in ATTENTIONS.items()}
)
"""Values of `attn_implementation`, each with the attention that it stands for."""

SUBMODULE = "gibbsian_attention"
"""Name of the submodule that each attention layer holds, and of the field in config.json."""

CUSTOM = "custom"
"""Mark of a description that is not enough to build the attention again."""


def implementation_of(attention: Attention) -> str:
    """The name under which an attention's class is registered."""
    return f"gibbsian_{attention.name.replace('-', '_')}"
