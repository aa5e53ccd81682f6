import pytest

from gibbsian.experiments.attentions import make_attention
from gibbsian.experiments.complexity import products_per_token
from gibbsian.experiments.config import CompareConfig
from gibbsian.experiments.measure import LayerStatistics


def layer(num_keys, support_size):
    return LayerStatistics(
        entropy=1.0,
        varentropy=1.0,
        zeta=0.5,
        support_fraction=0.5,
        support_size=support_size,
        num_keys=num_keys,
    )


LAYERS = [layer(5.5, 3.0), layer(5.5, 2.0)]
CONFIG = CompareConfig(layers=2, heads=4, width=32, context=10)


@pytest.mark.parametrize("name", ["softmax", "entmax", "aes"])
def test_scores_cost_visible_keys_and_values_the_support(name):
    assert products_per_token(make_attention(name), LAYERS, CONFIG) == (44.0, 20.0)


def test_lln_costs_its_state_whatever_the_length():
    state = 2 * 4 * (8 + 1)
    assert products_per_token(make_attention("lln"), LAYERS, CONFIG) == (state, state)


@pytest.mark.parametrize(("model", "block"), [("decoder", 2.3), ("encoder", 3.6)])
def test_diagonal_adds_the_keys_of_its_block(model, block):
    config = CompareConfig(layers=2, heads=4, width=32, context=10, model=model)
    # blocks of 4, 4 and 2 positions: counted one by one
    starts = [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
    ends = [4, 4, 4, 4, 8, 8, 8, 8, 10, 10]
    seen = [(t + 1 if model == "decoder" else ends[t]) - starts[t] for t in range(10)]
    assert sum(seen) / 10 == pytest.approx(block)
    scores, values = products_per_token(make_attention("lln-diag:block_size=4"), LAYERS, config)
    assert scores == values == pytest.approx(2 * 4 * (8 + 1 + sum(seen) / 10))
