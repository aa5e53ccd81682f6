"""Tasks on threads. Kernels may be any function here: what they release is not the matter."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from gibbsian.numerics.cpu import threads as module
from gibbsian.numerics.cpu.threads import num_workers, run

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=["openmp", "python"], autouse=True)
def team(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(module, "_team_of_openmp", None)
    elif module._team_of_openmp is None:
        pytest.skip("torch's OpenMP runtime has no GOMP_parallel here")


in_threads = pytest.mark.usefixtures("threads")


class Recorder:
    """A kernel that remembers who did what, and whether two did it under one number."""

    def __init__(self):
        self.tasks, self.workers, self.shared = [], set(), False
        self._busy, self._lock = set(), threading.Lock()

    def __call__(self, task, worker):
        with self._lock:
            self.shared |= worker in self._busy
            self._busy.add(worker)
            self.tasks.append(task)
            self.workers.add(worker)
        time.sleep(0.0005)
        with self._lock:
            self._busy.discard(worker)


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 40])
@in_threads
def test_every_task_once_under_a_number_of_its_own(tasks):
    recorder = Recorder()
    run(recorder, tasks)
    assert sorted(recorder.tasks) == list(range(tasks))
    assert not recorder.shared
    assert recorder.workers <= set(range(num_workers(tasks)))


def test_the_number_of_workers_is_torch_s_or_that_of_the_tasks(threads):
    assert [num_workers(tasks) for tasks in (0, 1, 3, 100)] == [
        1,
        1,
        min(3, threads),
        threads,
    ]


def test_two_threads_work_at_the_same_time(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    # each waits for the other
    together = threading.Barrier(2, timeout=20)
    run(lambda *_: together.wait(), 2)


@in_threads
def test_arguments_are_passed_on():
    seen = []
    run(lambda *given: seen.append(given[2:]), 3, "one", 2)
    assert seen == [("one", 2)] * 3


@pytest.mark.parametrize("failing", [0, 7, 19])
@in_threads
def test_an_error_is_raised_after_the_others_have_stopped(failing):
    running, lock = set(), threading.Lock()

    def kernel(task, _):
        with lock:
            running.add(task)
        time.sleep(0.0005)
        with lock:
            running.discard(task)
        if task == failing:
            raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match=f"task {failing}"):
        run(kernel, 20)
    assert not running
    # and the pool goes on
    recorder = Recorder()
    run(recorder, 20)
    assert sorted(recorder.tasks) == list(range(20))


@pytest.mark.parametrize("present", [0, 1])
def test_no_task_is_left_out_by_a_team_that_is_incomplete(monkeypatch, present):
    """An interrupt may keep a thread from starting, a limit may make a team smaller."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(
        module, "_team_of_openmp", lambda work, _workers: [work() for _ in range(present)]
    )
    recorder = Recorder()
    run(recorder, 20)
    assert sorted(recorder.tasks) == list(range(20))


def test_several_threads_may_call_at_once(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    recorders = [Recorder() for _ in range(6)]
    callers = [threading.Thread(target=run, args=(one, 30)) for one in recorders]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
        assert not caller.is_alive()
    for one in recorders:
        assert sorted(one.tasks) == list(range(30))
        assert not one.shared


# A process of its own: a fork of the test process would carry all its threads' locks with it.
PROCESSES = """
import json, multiprocessing, os, sys, time
import torch
from torch.utils.data import DataLoader
from gibbsian.attention import entmax_attention
from gibbsian.numerics.cpu import threads


def attend(seed):
    # small: torch's own threads do not survive a fork, and its larger operations wait for them
    tensors = torch.randn(3, 1, 4, 100, 8, generator=torch.Generator().manual_seed(seed))
    query, key, value = (t.requires_grad_() for t in tensors)
    output = entmax_attention(query, key, value, zeta=0.5, backend="cpu")
    return torch.stack([output, *torch.autograd.grad(output.sum(), (query, key))]).detach()


def ends_well(process):
    process.join(30)
    if process.is_alive():
        process.kill()
    return process.exitcode == 0


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return attend(index)


def in_child(expected):
    torch.set_num_threads(2)
    assert threads._team_of_openmp is None, "OpenMP would wait for the parent's threads"
    assert not threads._pools, "the child took over its parent's threads"
    assert torch.equal(attend(0), expected)
    assert threads._pools


torch.set_num_threads(2)
expected = torch.stack([attend(i) for i in range(6)])
found = {"team": threads._team_of_openmp is not None}
child = multiprocessing.get_context("fork").Process(target=in_child, args=(expected[0],))
child.start()
found["fork"] = ends_well(child)
found["parent"] = torch.equal(attend(0), expected[0])
loader = DataLoader(
    Samples(), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60
)
found["loader"] = torch.equal(torch.cat(list(loader)), expected)
maps = open("/proc/self/maps").read().split() if os.path.exists("/proc/self/maps") else []
names = {os.path.realpath(word) for word in maps if word.startswith("/")}
found["openmp"] = sorted(
    name for name in names if os.path.basename(name).startswith(("libgomp", "libiomp", "libomp"))
)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def processes():
    if not hasattr(os, "fork"):
        pytest.skip("nothing forks here")
    pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_fork_starts_threads_of_its_own(processes):
    if sys.platform == "linux":
        assert processes["team"], "torch's own threads were not found"
    assert processes["fork"]
    assert processes["parent"]


def test_the_workers_of_a_data_loader_attend(processes):
    assert processes["loader"]


def test_no_second_openmp_runtime_is_loaded(processes):
    assert len(processes["openmp"]) <= 1, processes["openmp"]
