"""What an attention computes for a token, in one unit for all of them.

The unit is a product of head_dim length: head_dim multiply-adds, as in one score q.k or in one
value v mixed in. Counted is what the definition of the attention needs, for the windows of the
comparison, summed over heads and layers; not what an implementation does (the materialised
reference also multiplies by zeros).

- Softmax, entmax, AES: a score product for each key that the query may attend to, a value product
  for each key in its support.
- LLN, in its recurrent form: with a state of head_dim x head_dim and a normaliser of head_dim, a
  token updates head_dim + 1 vectors (counted as score products: it is what a key costs) and reads
  head_dim + 1 (value products). It does not depend on the length.
- LLN+Diag: LLN, and softmax within a block.
"""

from collections.abc import Sequence

from gibbsian.attention import Attention
from gibbsian.attention.lln import LLN, LLNDiag
from gibbsian.experiments.config import CompareConfig
from gibbsian.experiments.measure import LayerStatistics


def products_per_token(
    attention: Attention, layers: Sequence[LayerStatistics], config: CompareConfig
) -> tuple[float, float]:
    """Score products and value products, each the mean over tokens, summed over heads and layers.

    Args:
        attention: the kind of attention in every layer.
        layers: measured statistics; what LLN costs does not depend on them.
        config: for the shape of the model.
    """
    rows = config.heads * config.layers
    if isinstance(attention, LLN | LLNDiag):
        state = config.width // config.heads + 1
        block = 0.0
        if isinstance(attention, LLNDiag):
            block = _mean_block_keys(
                config.context, attention.block_size, is_causal=config.model == "decoder"
            )
        return rows * (state + block), rows * (state + block)
    scores = sum(layer.num_keys for layer in layers)
    values = sum(layer.support_size for layer in layers)
    return config.heads * scores, config.heads * values


def _mean_block_keys(context: int, block_size: int, *, is_causal: bool) -> float:
    """Keys that a query sees in its own block, averaged over the window."""
    blocks = [min(block_size, context - start) for start in range(0, context, block_size)]
    if is_causal:
        return sum(size * (size + 1) / 2 for size in blocks) / context
    return sum(size * size for size in blocks) / context
