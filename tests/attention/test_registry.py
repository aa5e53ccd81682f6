"""Attentions by name."""

from dataclasses import fields

import pytest

from gibbsian._errors import ArgumentError
from gibbsian.attention import AES, AttentionStatistics, Entmax, attention_from_config
from gibbsian.attention.registry import ATTENTIONS


def test_every_name_builds_its_default():
    for name, attention in ATTENTIONS.items():
        built = attention_from_config({"name": name})
        assert type(built) is attention
        assert built.to_config()["name"] == name


def test_options():
    assert attention_from_config({"name": "entmax", "zeta": 0.2}).zeta == 0.2
    built = attention_from_config({"name": "aes", "schedule": {"name": "constant", "zeta": 0.1}})
    assert isinstance(built, AES)
    assert built.schedule.zeta == 0.1


def test_the_configuration_is_left_alone():
    config = {"name": "entmax", "zeta": 0.2}
    attention_from_config(config)
    assert config == Entmax(zeta=0.2).to_config()


@pytest.mark.parametrize("config", [{}, {"name": "soft"}, {"name": None}, {"name": ["aes"]}])
def test_unknown_names(config):
    with pytest.raises(ArgumentError, match=r"`name` .* one of 'softmax', 'entmax', 'aes', .* got"):
        attention_from_config(config)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_unknown_options(name):
    with pytest.raises(ArgumentError, match=f"attention '{name}' do not fit: .*sparsity"):
        attention_from_config({"name": name, "sparsity": 1})


def test_names_of_the_statistics():
    assert AttentionStatistics.names == tuple(f.name for f in fields(AttentionStatistics))
