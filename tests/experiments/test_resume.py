import json
import random

from tests.experiments.killing import run_to_death
from tests.experiments.tiny import tiny_config

KILLED = -9


def losses(out):
    return {
        path.parent.name: [
            (record["step"], record["loss"], record["learning_rate"], record["gradient_norm"])
            for record in map(json.loads, path.read_text().splitlines())
        ]
        for path in out.glob("runs/*/steps.jsonl")
    }


def results(out):
    kept = json.loads((out / "results.json").read_text())
    for entry in kept["runs"] + kept["summary"]:
        del entry["step_seconds"]
    return kept


def test_killed_again_and_again_ends_with_the_same_losses_and_results(tmp_path):
    config = tiny_config(tmp_path, attentions=("softmax", "aes-learned", "lln-diag"))
    assert run_to_death(config, tmp_path / "whole", None) == 0
    random_number = random.Random(0)  # noqa: S311  (not for cryptography)
    deaths = 0
    # A run takes some 45 changes of the disk; a checkpoint takes 7, and is reached in every case.
    while run_to_death(config, tmp_path / "killed", random_number.randint(3, 24)) == KILLED:
        deaths += 1
        assert deaths < 60
    assert deaths >= 5
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 3
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
