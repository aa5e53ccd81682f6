"""Settings that are refused before anything is loaded."""

import pytest

from gibbsian._errors import ArgumentError
from gibbsian.experiments.generation import GenerateConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": None}, "`--prompt` must be given"),
        ({"prompt": " \n"}, "`--prompt` must have some text"),
        ({"max_tokens": 0}, "`--max-tokens` must be >= 1, got 0"),
        ({"insert": "hm", "policy": "edt"}, "`--insert` is for `--policy quadrant`, got 'edt'"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        GenerateConfig(**{"model": "m", "prompt": "p"} | options)


def test_a_calibration_needs_no_prompt():
    assert GenerateConfig(model="m", calibrate="text.txt").prompt is None
