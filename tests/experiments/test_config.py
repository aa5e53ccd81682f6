import json

import pytest

from gibbsian._errors import ArgumentError
from gibbsian.experiments.config import CompareConfig, demo_config


def test_json_and_back():
    config = CompareConfig(attentions=("softmax",), seeds=(3,), text=("a.txt",))
    assert CompareConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_differences_name_the_fields():
    one, other = CompareConfig(steps=5), CompareConfig(steps=6, width=64)
    assert one.differences(other) == ["width: 128 -> 64", "steps: 5 -> 6"]
    assert one.differences(one) == []


def test_demo_is_valid_and_small():
    assert demo_config().steps < CompareConfig().steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attentions": ()}, "`attentions` must name at least one"),
        ({"attentions": ("aes", "aes")}, "`attentions` must be different"),
        ({"seeds": ()}, "`seeds` must hold at least one"),
        ({"seeds": (1, 1)}, "`seeds` must be different"),
        ({"seeds": (-1,)}, "`seeds` must be in 0"),
        ({"seeds": (2**31,)}, "`seeds` must be in 0"),
        ({"model": "both"}, "`model` must be one of decoder, encoder"),
        ({"device": "tpu"}, "`device` must be one of auto, cpu, cuda"),
        ({"layers": 0}, "`layers` must be at least 1, got 0"),
        ({"context": 1}, "`context` must be at least 2"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"weight_decay": -0.1}, "`weight_decay` must be at least 0"),
        ({"width": 100, "heads": 3}, "`width` must be a multiple of `heads`"),
        ({"width": 12, "heads": 4}, "must be even for a decoder"),
        ({"learning_rate": 0.0}, "`learning_rate` must be > 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be > 0"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        CompareConfig(**changes)
    assert "\n" not in str(caught.value)


def test_fields_of_another_version_are_refused():
    stored = CompareConfig().to_json() | {"colour": "red"}
    with pytest.raises(ArgumentError, match=r"does not fit this version of gibbsian: colour"):
        CompareConfig.from_json(stored)
