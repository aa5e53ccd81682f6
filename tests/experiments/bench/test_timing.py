import math

import pytest

from gibbsian.experiments.bench.timing import MIN_ROUNDS, interleave, summarise, summarise_ratio


def test_operations_take_turns():
    order = []

    def timer(name, seconds):
        return lambda: order.append(name) or seconds

    found = interleave({"a": timer("a", 1.0), "b": timer("b", 2.0)}, repeats=3, budget=60.0)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_a_used_up_budget_ends_after_the_least_number_of_rounds():
    rounds = []
    found = interleave(
        {"a": lambda: 1.0}, repeats=100, budget=0.0, on_round=lambda *r: rounds.append(r)
    )
    assert len(found["a"]) == MIN_ROUNDS
    assert rounds[-1] == (MIN_ROUNDS, 100)


def test_quartiles_are_those_of_the_textbook():
    found = summarise([5.0, 1.0, 2.0, 4.0, 3.0])
    assert found == {"median": 3.0, "q1": 2.0, "q3": 4.0, "rounds": 5}
    assert summarise([1.0]) == {"median": 1.0, "q1": 1.0, "q3": 1.0, "rounds": 1}


def test_a_ratio_is_one_of_medians_and_its_interval_is_taken_round_by_round():
    # slowed down together, threefold
    found = summarise_ratio([1.0, 3.0, 2.0], [2.0, 6.0, 4.0])
    assert found == {"ratio": 0.5, "low": 0.5, "high": 0.5, "rounds": 3}
    # the median of the rounds' ratios would be 1
    found = summarise_ratio([1.0, 3.0, 4.0], [1.0, 2.0, 8.0])
    assert found == {"ratio": 1.5, "low": 0.5, "high": 1.5, "rounds": 3}


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9, 21, 50])
def test_the_interval_covers_the_median_with_95_percent(count):
    values = [float(i) for i in range(1, count + 1)]
    found = summarise_ratio(values, [1.0] * count)
    outside = values.index(found["low"])
    assert found["high"] == values[-1 - outside]

    def coverage(k):
        # binomial: the median lies between the k-th and the (n + 1 - k)-th ordered value
        return 1 - 2 * sum(math.comb(count, i) for i in range(k)) / 2**count

    if outside:
        assert coverage(outside) >= 0.95
    assert count < 6 or coverage(outside + 1) < 0.95
