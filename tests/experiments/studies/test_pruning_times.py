import json

import pytest

from gibbsian.experiments.studies import pruning_times


def test_a_small_study_writes_times_and_exponents(tmp_path):
    small = ["--most-keys", "512", "--most-queries", "512", "--seeds", "2", "--rounds", "1"]
    pruning_times.main(["--out", str(tmp_path), *small])
    result = json.loads((tmp_path / "pruning-times.json").read_text())
    assert result["seeds"] == 2
    for part, names in (("decoding", {"softmax", "exact", "index"}), ("prefill", {"exact"})):
        assert result[part]["keys"] == [256, 512]
        for name in names:
            found = result[part][name]
            assert min(found["milliseconds"]) > 0
            low, high = found["interval"]
            # of two sizes and two seeds: the exponent lies between those of the seeds
            assert low <= found["exponent"] <= high
    at_zeta, of_spread = result["prefill_at_fixed_zeta"], result["prefill_of_one_spread"]
    for found, causes in ((at_zeta, pruning_times.ZETAS), (of_spread, pruning_times.SCORE_STDS)):
        assert set(found["milliseconds"]) == {f"{cause:g}" for cause in causes}
        low, high = found["interval"]
        assert low <= found["exponent"] <= high
    # rows of 512 Gaussian scores: V grows with their variance, and starts as it
    varentropy = of_spread["varentropy"]
    assert varentropy == sorted(varentropy)
    assert varentropy[0] == pytest.approx(0.25, rel=0.1)


def test_medians_are_of_all_rounds_but_the_first():
    calls = []
    times = pruning_times.medians({"one": lambda: calls.append(1)}, rounds=3)
    assert len(calls) == 4
    assert times["one"] == pytest.approx(0.0, abs=5.0)
