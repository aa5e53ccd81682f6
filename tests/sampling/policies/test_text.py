"""Policies as people write them."""

import re

import pytest

from gibbsian._errors import ArgumentError
from gibbsian.normalizers.schedules import Linear
from gibbsian.sampling import Thresholds
from gibbsian.sampling.policies import (
    POLICIES,
    AESPolicy,
    Fixed,
    FreeEnergy,
    Quadrant,
    policy_from_text,
)

LEVELS = Thresholds(entropy_low=0.5, entropy_high=2.0, varentropy_low=0.25, varentropy_high=1.5)


def test_every_policy_has_a_word():
    for name in POLICIES:
        spec = f"{name}:target_entropy=1" if name == "free-energy" else name
        assert policy_from_text(spec).name == name


def test_options_have_their_types():
    policy = policy_from_text("fixed:temperature=1,top_k=5,p_less=true")
    assert isinstance(policy, Fixed)
    assert (policy.temperature, policy.top_k, policy.p_less) == (1.0, 5, True)
    assert isinstance(policy.temperature, float)
    energy = policy_from_text("free-energy:excess=0.5")
    assert isinstance(energy, FreeEnergy)
    assert energy.excess == 0.5


def test_options_of_aes_are_those_of_its_schedule():
    policy = policy_from_text("aes:schedule=linear,zeta_max=0.25")
    assert isinstance(policy, AESPolicy)
    assert isinstance(policy.schedule, Linear)
    assert policy.schedule.zeta_max == 0.25


def test_thresholds_on_the_line_come_before_those_given():
    policy = policy_from_text(
        "quadrant:entropy_high=3,temperature=0.9", thresholds=LEVELS, insert_token=7
    )
    assert isinstance(policy, Quadrant)
    assert (policy.insert_token, policy.temperature) == (7, 0.9)
    assert policy.thresholds == Thresholds(
        entropy_low=0.5, entropy_high=3.0, varentropy_low=0.25, varentropy_high=1.5
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("quadrat", "`policy` must be one of adaptive, aes, .*quadrant, got 'quadrat'."),
        ("fixed:0.7", "`policy` must be NAME or NAME:OPTION=VALUE,..., got 'fixed:0.7'"),
        ("fixed:top_q=1", "`top_q` is not an option of policy 'fixed'. It has .*top_p"),
        ("fixed:top_k=1.5", "`top_k` must be a whole number, got '1.5'."),
        ("fixed:temperature=hot", "`temperature` must be a number, got 'hot'."),
        ("fixed:p_less=1", "`p_less` must be true or false, got '1'."),
        ("fixed:top_p=1.5", "`.*p` must .*1.5"),
        ("quadrant:entropy_low=3,entropy_high=1", "0 <= low <= high, got 3.0 and 1.0"),
        ("quadrant:entropy_high=100", "must be at most 20 .nats., got 100.0. From bits"),
        ("free-energy", "`target_entropy` or `excess` must be given"),
    ],
)
def test_words_that_are_refused(spec, message):
    with pytest.raises(ArgumentError) as caught:
        policy_from_text(spec)
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
