"""Thresholds are quantiles, and their file is whole or not there."""

import json
import os
import stat

import numpy as np
import pytest
import torch

from gibbsian._errors import ArgumentError, DataError
from gibbsian.sampling import Calibration, calibrate, policies
from gibbsian.statistics import row_statistics

LOGITS = torch.randn(400, 50) * torch.linspace(0.1, 6, 400).unsqueeze(-1)


def calibrated(**options):
    return calibrate(row_statistics(LOGITS), model="a model", text="a text", **options)


def test_thresholds_are_quantiles():
    statistics = row_statistics(LOGITS)
    found = calibrated(low=0.3, high=0.9).thresholds
    for name in ("entropy", "varentropy"):
        samples = getattr(statistics, name).double().numpy()
        expected = np.quantile(samples, [0.3, 0.9])
        actual = [getattr(found, f"{name}_low"), getattr(found, f"{name}_high")]
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_entropies_and_varentropies_will_do():
    statistics = row_statistics(LOGITS)
    both = calibrate(statistics.entropy, statistics.varentropy, model="a", text="b")
    assert both.thresholds == calibrated().thresholds


def test_the_file_says_where_it_comes_from_and_in_what_unit(tmp_path):
    calibration = calibrated()
    path = calibration.save(tmp_path / "there" / "thresholds.json")
    assert Calibration.load(path) == calibration
    content = json.loads(path.read_text())
    assert content["thresholds"]["unit"] == "nats"
    assert content["model"] == "a model"
    assert content["positions"] == 400
    assert [p.name for p in path.parent.iterdir()] == ["thresholds.json"]
    policy = policies.policy_from_config({"name": "quadrant", "thresholds": content["thresholds"]})
    assert policy.thresholds == calibration.thresholds


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = calibrated().save(tmp_path / "thresholds.json")
    before = path.read_text()
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        calibrated(low=0.1).save(path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["thresholds.json"]


def test_others_may_read_the_file(tmp_path):
    before = os.umask(0o022)
    try:
        path = calibrated().save(tmp_path / "thresholds.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": 1}', '{"schema": 2, "thresholds": 3}', "no json"]
)
def test_another_file_is_a_one_line_error(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"^`path` must be a calibration file") as raised:
        Calibration.load(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_a_one_line_error(tmp_path):
    with pytest.raises(DataError, match=r"^`path` must be a calibration file"):
        Calibration.load(tmp_path / "missing.json")


def test_a_file_in_bits_is_refused(tmp_path):
    path = calibrated().save(tmp_path / "thresholds.json")
    path.write_text(path.read_text().replace('"nats"', '"bits"'))
    with pytest.raises(ArgumentError, match=r"^`unit` of thresholds must be 'nats'"):
        Calibration.load(path)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: calibrated(low=0.9, high=0.1), ArgumentError, r"^`low` and `high`"),
        (lambda: calibrated(low=0.0), ArgumentError, r"^`low` and `high`"),
        (
            lambda: calibrate(torch.ones(200), model="a", text="b"),
            ArgumentError,
            r"^`varentropy` must have one number",
        ),
        (
            lambda: calibrate(torch.ones(9), torch.ones(9), model="a", text="b"),
            DataError,
            r"^`entropy` must have at least 100",
        ),
        (
            lambda: calibrate(torch.full((200,), torch.nan), torch.ones(200), model="a", text="b"),
            DataError,
            r"200 are not finite",
        ),
    ],
)
def test_bad_samples(make, error, message):
    with pytest.raises(error, match=message):
        make()
