import json
import os
import shlex
import subprocess
import sys

import pytest

from tests.experiments.tiny import tiny_config

ARGUMENTS = shlex.split(
    "--attention softmax --attention aes-learned --seed 0 --layers 1 --width 16 --heads 2 "
    "--context 16 --steps 6 --batch 4 --checkpoint-every 3 --device cpu"
)


def records(out, run):
    path = out / "runs" / run / "steps.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    tiny_config(tmp_path)  # writes the text
    command = ["-m", "gibbsian.cli", "compare", "--text", str(tmp_path / "text.txt"), *ARGUMENTS]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(out, *before, more=()):
        arguments = [sys.executable, *before, *command, "--out", str(out), *more]
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = start(tmp_path / "two", *launcher)
    assert printed.count("bits/byte") == 1
    start(tmp_path / "one")
    for run in ("softmax-seed0", "aes-learned-seed0"):
        one, two = records(tmp_path / "one", run), records(tmp_path / "two", run)
        assert [r["step"] for r in two] == [1, 2, 3, 4, 5, 6]
        for a, b in zip(one, two, strict=True):
            # the same examples, summed in another order
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    # an interrupted run goes on, in both processes, to the same losses
    run = tmp_path / "two" / "runs" / "softmax-seed0"
    before = records(tmp_path / "two", run.name)
    (run / "result.json").unlink()
    (run / "checkpoints" / "checkpoint-6" / "seal.json").unlink()
    start(tmp_path / "two", *launcher, more=["--resume"])
    after = records(tmp_path / "two", run.name)
    assert [r["loss"] for r in after] == [r["loss"] for r in before]
