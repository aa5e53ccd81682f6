"""The vectors of llama.cpp's own tests (tests/test-sampling.cpp): probabilities in and out."""

import pytest
import torch

from gibbsian.sampling.filters import MinP, Temperature, TopK, TopNSigma, TopP
from tests.tolerances import LLAMA_CPP_ERROR

FOUR = (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Temperature(temperature=1.0), FOUR),
        (Temperature(temperature=0.0), (0, 0, 0, 1.0)),
        (TopK(k=1), (0, 0, 0, 1.0)),
        (TopK(k=3), (0, 0.22222, 0.33333, 0.44444)),
        (TopK(k=4), FOUR),
        (TopP(p=0.0), (0, 0, 0, 1.0)),
        (TopP(p=0.7), (0, 0, 0.428571, 0.571429)),
        (TopP(p=0.8), (0, 0.22222, 0.33333, 0.44444)),
        (TopP(p=1.0), FOUR),
        (MinP(min_p=0.0), FOUR),
        (MinP(min_p=0.24), FOUR),
        (MinP(min_p=0.26), (0, 0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9)),
        (MinP(min_p=0.49), (0, 0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9)),
        (MinP(min_p=0.51), (0, 0, 0.3 / 0.7, 0.4 / 0.7)),
        (MinP(min_p=0.74), (0, 0, 0.3 / 0.7, 0.4 / 0.7)),
        (MinP(min_p=0.76), (0, 0, 0, 1.0)),
        (MinP(min_p=1.0), (0, 0, 0, 1.0)),
        (TopNSigma(n=1.0), (0, 0, 0.428571, 0.571429)),
        (TopNSigma(n=0.0), FOUR),
        (TopNSigma(n=3.0), FOUR),
    ],
    ids=repr,
)
def test_vectors(step, expected):
    probs = step(torch.tensor(FOUR).log()).softmax(dim=-1)
    torch.testing.assert_close(probs, torch.tensor(expected), rtol=0, atol=LLAMA_CPP_ERROR)
