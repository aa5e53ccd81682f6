"""The entropy that is recorded is that of what is taken."""

import math
from itertools import pairwise

import pytest
import torch

from gibbsian.experiments.studies.decoding.levels import Contexts
from gibbsian.experiments.studies.decoding.methods import (
    BASELINES,
    ENTROPIC,
    METHODS,
    at_entropy,
    by_name,
)
from gibbsian.experiments.studies.decoding.watching import (
    EntropyRecorder,
    RecordedPolicy,
    best_of,
    realised_entropy,
)
from gibbsian.sampling import Decision, Thresholds, start, step
from gibbsian.sampling.policies import Adaptive, Fixed, Mirostat
from gibbsian.statistics import row_statistics
from tests.tolerances import ENTROPY_ERROR


def entropy(p):
    return -sum(x * math.log(x) for x in p if x > 0)


def test_the_best_of_two_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    # the last is best: taken unless both draws miss it
    best = best_of(p, torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64), 2)
    torch.testing.assert_close(
        best, torch.tensor([[0.25, 0.8**2 - 0.25, 1 - 0.8**2]], dtype=torch.float64)
    )
    # the first two are equally good
    best = best_of(p, torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64), 2)
    high = 1 - 0.2**2
    torch.testing.assert_close(
        best, torch.tensor([[high * 5 / 8, high * 3 / 8, 0.04]], dtype=torch.float64)
    )


def test_realised_entropy_is_that_of_many_draws():
    """Against the frequencies of tokens that `step` takes with the adaptive policy."""
    torch.manual_seed(0)
    logits = 2 * torch.randn(1, 40)
    policy = Adaptive(temperature=1.5)
    number = 40_000
    rows = logits.expand(number, -1)
    result = step(rows, start(policy, number, seed=1), policy=policy)
    frequency = (torch.bincount(result.token, minlength=40).double() / number).tolist()
    recorder = EntropyRecorder()
    recorded = RecordedPolicy(policy=policy, recorder=recorder)
    recorder(torch.zeros(1, 1), logits)
    step(logits, start(recorded, 1, seed=1), policy=recorded)
    assert recorder.of_rows().item() == pytest.approx(entropy(frequency), abs=0.02)
    # and not that of a plain draw from the filtered logits
    decision = policy.decide(row_statistics(logits), policy.start(1, "cpu"))[0]
    plain = decision.apply(logits)[0].softmax(dim=-1).tolist()
    assert abs(entropy(plain) - recorder.of_rows().item()) > 0.1


def test_one_candidate_is_the_filtered_distribution():
    torch.manual_seed(1)
    logits = torch.randn(3, 50)
    decision = Decision(temperature=0.7, top_p=0.8)
    filtered = decision.apply(logits)
    expected = [entropy(row) for row in filtered.double().softmax(dim=-1).tolist()]
    found = realised_entropy(decision, logits, filtered).tolist()
    assert found == pytest.approx(expected, abs=10 * ENTROPY_ERROR)
    greedy = Decision(temperature=0.0)
    assert realised_entropy(greedy, logits, greedy.apply(logits)).tolist() == [0, 0, 0]


def test_recording_changes_no_token():
    torch.manual_seed(2)
    logits = 3 * torch.randn(8, 60)
    for method in METHODS:
        policy = method.policy(method.grid(3)[1], Thresholds())
        recorder = EntropyRecorder()
        recorded = RecordedPolicy(policy=policy, recorder=recorder)
        assert recorder(torch.zeros(8, 1), logits) is logits
        plain = step(logits, start(policy, 8, seed=4), policy=policy)
        other = step(logits, start(recorded, 8, seed=4), policy=recorded)
        assert plain.token.tolist() == other.token.tolist(), method.name
        assert recorder.of_rows().shape == (8, 1)


def test_main_rows_alone_are_recorded():
    """In between a loop may look at, and decide on, other rows."""
    torch.manual_seed(6)
    recorder = EntropyRecorder()
    main, other = torch.randn(2, 2, 5), torch.randn(6, 5)
    for logits in main:
        recorder(torch.zeros(2, 1), logits)
        recorder.record(Decision())
        recorder(torch.zeros(6, 1), other)
        recorder.record(Decision())
        recorder.record(Decision(temperature=0.1))
        recorder.next_step([])
    expected = [[entropy(row) for row in rows] for rows in main.softmax(dim=-1).tolist()]
    torch.testing.assert_close(recorder.of_rows(), torch.tensor(expected).T)


def test_strengths_at_an_entropy():
    strengths, entropies = [1.0, 2.0, 4.0], [0.0, 1.0, 2.0]
    assert at_entropy(strengths, entropies, 1.5) == (pytest.approx(2 * 2**0.5), True)
    # a strength that cools, given in any order
    assert at_entropy([4.0, 1.0, 2.0], [0.0, 2.0, 1.0], 1.5) == (pytest.approx(2**0.5), True)
    assert at_entropy(strengths, entropies, 3.0) == (pytest.approx(4.0), False)
    assert at_entropy(strengths, entropies, -1.0) == (pytest.approx(1.0), False)


def test_methods_get_hotter_along_their_range():
    torch.manual_seed(3)
    logits = 3 * torch.randn(30, 200)
    contexts = Contexts([logits], [list(range(30))])
    levels = Thresholds(entropy_low=0.5, entropy_high=2.0, varentropy_low=0.5, varentropy_high=2.0)
    for method in METHODS:
        found = [contexts.entropy(method.policy(s, levels)) for s in method.grid(5)]
        assert found[0] < found[-1], method.name
        assert all(a <= b + 0.05 for a, b in pairwise(found)), method.name
    assert len(BASELINES) == 4
    assert len(ENTROPIC) == 7
    assert by_name("aes").name == "aes"


def test_contexts_average_over_all_positions():
    torch.manual_seed(4)
    short, long = torch.randn(2, 30), torch.randn(5, 30)
    contexts = Contexts([short, long], [[1, 2], [3, 4, 5, 6, 7]])
    rows = torch.cat([short, long]) / 0.8
    expected = [entropy(row) for row in rows.double().softmax(dim=-1).tolist()]
    assert contexts.entropy(Fixed(temperature=0.8)) == pytest.approx(sum(expected) / 7, rel=1e-5)
    assert contexts.all().shape == (7, 30)


def test_feedback_sees_the_tokens_of_the_context():
    """A context of unlikely tokens makes Mirostat colder than one of likely tokens."""
    torch.manual_seed(5)
    logits = 3 * torch.randn(1, 40).expand(30, -1)
    best, worst = int(logits[0].argmax()), int(logits[0].argmin())
    policy = Mirostat(target=2.0, rate=0.3)
    likely = Contexts([logits], [[best] * 30]).entropy(policy)
    unlikely = Contexts([logits], [[worst] * 30]).entropy(policy)
    assert unlikely < likely
