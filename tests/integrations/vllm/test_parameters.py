"""What a vLLM request may ask for; without vLLM."""

import pytest

from gibbsian._errors import ArgumentError
from gibbsian.integrations.vllm import POLICY_VARIABLE, EntropicRows, default_policy
from tests.integrations.vllm.engines import SamplingParams

FREE = {"gibbsian_policy": "free-energy:target_entropy=0.5", "gibbsian_seed": 1}


@pytest.fixture(autouse=True)
def _no_default(monkeypatch):
    monkeypatch.delenv(POLICY_VARIABLE, raising=False)


def refused(**parameters):
    with pytest.raises(ArgumentError) as error:
        EntropicRows.validate_params(SamplingParams(**parameters))
    message = str(error.value)
    assert "\n" not in message
    return message


def test_requests_that_ask_for_nothing_may_be_anything():
    for given in (None, {}, {"session_id": "a"}):
        EntropicRows.validate_params(
            SamplingParams(extra_args=given, temperature=0.0, top_p=0.5, n=3)
        )


def test_a_policy_as_text_and_as_json():
    EntropicRows.validate_params(SamplingParams(extra_args=FREE))
    EntropicRows.validate_params(
        SamplingParams(extra_args={"gibbsian_policy": '{"name": "edt", "theta": 0.2}'}, top_k=-1)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.7),
        ("temperature", 0.0),
        ("top_p", 0.9),
        ("top_k", 20),
        ("min_p", 0.05),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -0.5),
        ("repetition_penalty", 1.1),
    ],
)
def test_rules_of_vllm_beside_a_policy_are_refused(name, value):
    message = refused(extra_args=FREE, **{name: value})
    assert message.startswith(f"`{name}` must be ")
    assert f"got {value}" in message
    assert "--generation-config vllm" in message


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"gibbsian_policy": "nonsense"}, "must be one of adaptive, "),
        ({"gibbsian_policy": "edt:nonsense=1"}, "`nonsense` is not an option"),
        ({"gibbsian_policy": "fixed:top_p=2"}, "`p`"),
        ({"gibbsian_policy": "fixed:temperature=-1"}, "`temperature`"),
        ({"gibbsian_policy": "{"}, "JSON"),
        ({"gibbsian_policy": 3}, "`gibbsian_policy` must be"),
        ({"gibbsian_policy": ["edt"]}, "`gibbsian_policy` must be"),
        ({"gibbsian_policy": "edt", "gibbsian_seed": 1.5}, "`gibbsian_seed` must be an integer"),
        ({"gibbsian_seed": 1}, "`gibbsian_seed` needs `gibbsian_policy`"),
        ({"gibbsian_polcy": "edt"}, "`gibbsian_polcy` is not a parameter"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(given, found):
    assert found in refused(extra_args=given)


def test_several_texts_of_one_seed_are_refused():
    assert "Send a request for each seed" in refused(extra_args=FREE, n=2)
    EntropicRows.validate_params(SamplingParams(extra_args={"gibbsian_policy": "edt"}, n=2))


def test_the_environment_names_the_policy_of_other_requests(monkeypatch):
    assert default_policy() is None
    monkeypatch.setenv(POLICY_VARIABLE, "edt")
    assert default_policy().name == "edt"
    assert "`temperature` must be 1" in refused(temperature=0.5)
    EntropicRows.validate_params(SamplingParams(extra_args={"gibbsian_seed": 3}))
    monkeypatch.setenv(POLICY_VARIABLE, '{"name": "quadrant"}')
    assert default_policy().name == "quadrant"
    monkeypatch.setenv(POLICY_VARIABLE, "nonsense")
    with pytest.raises(ArgumentError, match=f"^`{POLICY_VARIABLE}`: .*one of adaptive"):
        default_policy()
