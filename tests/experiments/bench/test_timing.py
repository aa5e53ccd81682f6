import numpy as np

from gibbsian.experiments.bench.timing import (
    MIN_ROUNDS,
    SHORT,
    interleave,
    settle,
    summarise,
    summarise_ratio,
)


def test_operations_take_turns_and_none_always_follows_the_same_one():
    order = []

    def timer(name, seconds):
        return lambda: order.append(name) or seconds

    timers = {name: timer(name, seconds) for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    found = interleave(timers, repeats=20, budget=60.0)
    assert found == {"a": [1.0] * 20, "b": [2.0] * 20, "c": [3.0] * 20}
    rounds = [order[i : i + 3] for i in range(0, 60, 3)]
    assert all(sorted(round_) == ["a", "b", "c"] for round_ in rounds)
    before_b = [order[i - 1] for i in range(1, 60) if order[i] == "b"]
    assert min(before_b.count("a"), before_b.count("c")) >= 4
    again = []
    interleave(
        {name: lambda name=name: again.append(name) or 0.0 for name in "abc"},
        repeats=20,
        budget=60.0,
    )
    assert again == order


def test_a_short_call_is_timed_after_another_of_its_own():
    times = iter([0.2, 9.0, 0.1, 9.0, 0.3])
    settled = settle(lambda: next(times))
    assert [settled(), settled()] == [0.1, 0.3]
    times = iter([SHORT * 2, 1.0, 2.0])
    settled = settle(lambda: next(times))
    assert [settled(), settled()] == [1.0, 2.0]


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


def test_a_ratio_is_one_of_medians_and_rounds_are_resampled_whole():
    # slowed down together, threefold
    found = summarise_ratio([1.0, 3.0, 2.0], [2.0, 6.0, 4.0])
    assert found == {"ratio": 0.5, "low": 0.5, "high": 0.5, "rounds": 3}
    # the median of the rounds' ratios would be 1; three times one round gives 0.5 or 1.5
    found = summarise_ratio([1.0, 3.0, 4.0], [1.0, 2.0, 8.0])
    assert found == {"ratio": 1.5, "low": 0.5, "high": 1.5, "rounds": 3}


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held, widths = 0, []
    for _ in range(200):
        below = generator.lognormal(sigma=0.3, size=15)
        above = 0.7 * below * generator.lognormal(sigma=0.1, size=15)
        found = summarise_ratio(above.tolist(), below.tolist())
        assert found["low"] <= found["ratio"] <= found["high"]
        held += found["low"] <= 0.7 <= found["high"]
        widths.append(found["high"] - found["low"])
    assert held >= 0.95 * 200
    # two times that are independent would make it wider
    alone = summarise_ratio(generator.permutation(above).tolist(), below.tolist())
    assert np.median(widths) < 0.2 < alone["high"] - alone["low"]
