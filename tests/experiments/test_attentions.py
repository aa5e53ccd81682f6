import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.attention import AES, Entmax
from gibbsian.experiments.attentions import FACTORIES, make_attention
from gibbsian.normalizers.schedules import Linear


@pytest.mark.parametrize("name", FACTORIES)
def test_every_name_makes_an_attention_that_runs(name):
    attention = make_attention(name)
    rows = torch.randn(2, 2, 5, 4)
    output, statistics = attention(rows, rows, rows, is_causal=True, return_statistics=True)
    assert output.shape == rows.shape
    assert statistics.entropy.shape == (2, 2, 5)


def test_parameters_reach_the_attention():
    entmax = make_attention("entmax:zeta=0.25")
    assert isinstance(entmax, Entmax)
    assert entmax.zeta == 0.25
    aes = make_attention("aes:shape=linear,low=0.1,direction=concentrate_high")
    assert isinstance(aes, AES)
    assert aes.schedule == Linear(low=0.1, high=0.9, direction="concentrate_high")
    assert make_attention("lln-diag:block_size=8").block_size == 8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sofmax", "`attention` must be one of softmax, entmax, .*, got 'sofmax'"),
        ("", "`attention` must be one of"),
        ("entmax:alpha=1.5", "'entmax' has the parameters: zeta=0.5; got 'alpha=1.5'"),
        ("entmax:0.5", "got '0.5'"),
        ("softmax:zeta=1", "'softmax' has the parameters: none"),
        ("entmax:zeta=half", "`entmax:zeta` must be a number, got 'half'"),
        ("lln-diag:block_size=1.5", "must be a whole number"),
        ("aes:shape=square", "`aes:shape` must be one of smooth_step, linear, cosine"),
        ("entmax:zeta=2", r"`zeta` must lie in \[0, 1\].*got 2.0"),
        ("aes:low=0.9,high=0.2", "`low` and `high` must satisfy"),
        ("aes-learned:zeta_max=1.0", "zeta_max"),
    ],
)
def test_bad_attentions_are_refused(spec, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        make_attention(spec)
    assert "\n" not in str(caught.value)
