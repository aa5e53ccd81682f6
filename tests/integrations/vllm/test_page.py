"""What docs/usage/serve.md says, as far as that needs no vLLM."""

import inspect
import json
import re
from pathlib import Path

import pytest

from gibbsian._errors import ArgumentError
from gibbsian.cli.serve import serve_command
from gibbsian.integrations.vllm import EntropicRows
from gibbsian.sampling.policies import policy_from_text
from tests.integrations.vllm.engines import SamplingParams

PAGE = (Path(__file__).parents[3] / "docs" / "usage" / "serve.md").read_text(encoding="utf-8")


def test_every_option_is_there():
    rows = dict(re.findall(r"^\| `--([a-z]*)` \|.*\| (.*) \|$", PAGE, re.MULTILINE))
    parameters = inspect.signature(serve_command).parameters
    assert set(rows) - {""} == set(parameters) - {"model", "options"}
    for name in ("host", "port"):
        assert rows[name].strip("`") == str(parameters[name].default)


def test_the_requests_are_admitted():
    bodies = [json.loads(body) for body in re.findall(r"-d '(.*?)'\n", PAGE, re.DOTALL)]
    assert bodies
    asked = [body["vllm_xargs"] for body in bodies]
    asked += [json.loads(text) for text in re.findall(r"(?:xargs\": |args=)(\{[^}]*\})", PAGE)]
    assert len(asked) > 2
    for given in asked:
        EntropicRows.validate_params(SamplingParams(extra_args=given))
    for text in re.findall(r"`(fixed:[^`]*)`", PAGE):
        assert policy_from_text(text)


def test_the_answer_to_a_bad_request_is_the_one_it_gets():
    answer = json.loads(re.search(r"```json\n(.*?)\n```", PAGE, re.DOTALL).group(1))
    with pytest.raises(ArgumentError) as error:
        EntropicRows.validate_params(SamplingParams(extra_args={"gibbsian_policy": "warm"}))
    assert answer["error"]["message"] == str(error.value)
    assert answer["error"]["code"] == 400
