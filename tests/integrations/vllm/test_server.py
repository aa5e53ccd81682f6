"""`gibbsian serve`: an OpenAI-compatible server with policies, from its start to Ctrl-C."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from tests.integrations.vllm.smollm2 import LENGTH, PROMPT, Reference, environment, folder
from tests.integrations.vllm.test_page import PAGE

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # of vLLM's own modules
]

COUNT = 24
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
FREE = "free-energy:target_entropy=0.5"


@pytest.fixture(scope="module")
def reference():
    folder()
    return Reference()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log, port = tmp_path_factory.mktemp("server") / "log.txt", free_port()
    command = [sys.executable, "-m", "gibbsian.cli", "serve", str(folder()), "--port", str(port)]
    command += ["--", "--dtype", "float32", "--max-model-len", str(LENGTH), "--enforce-eager"]
    command += ["--served-model-name", "smollm2"]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=environment(), stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 300
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310
                break
            except OSError:
                time.sleep(0.5)
        yield SimpleNamespace(url=url, process=process, log=log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(server, **body):
    """(status, answer) of a request."""
    request = urllib.request.Request(  # noqa: S310
        f"{server.url}/v1/completions",
        json.dumps({"model": "smollm2", "max_tokens": COUNT, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def write(server, policy=None, own=None, **body):
    """The tokens of a completion; `own` is gibbsian's seed, `seed` would be vLLM's."""
    given = {"gibbsian_policy": policy, "gibbsian_seed": own}
    given = {name: value for name, value in given.items() if value is not None}
    if given:
        body["vllm_xargs"] = given
    settings = {"prompt": PROMPT, "ignore_eos": True, "return_token_ids": True}
    status, answer = ask(server, **settings, **body)
    assert status == 200, answer
    return answer["choices"][0]["token_ids"]


def test_a_request_gets_entropic_sampling(server, reference):
    tokens = write(server, FREE, 3)
    assert tokens == reference.tokens(FREE, 3, COUNT)
    assert write(server, FREE, 3) == tokens
    assert write(server, FREE, 4) != tokens
    as_json = json.dumps({"name": "free-energy", "target_entropy": 0.5})
    assert write(server, as_json, 3) == tokens
    # without a seed vLLM draws, from the stream of its own
    assert write(server, FREE) != write(server, FREE)
    assert write(server, FREE, seed=5) == write(server, FREE, seed=5)


def test_the_coldest_policy_is_greedy(server):
    greedy = write(server, temperature=0)
    assert write(server, "fixed:temperature=0") == greedy
    assert write(server, "free-energy:target_entropy=0,coldest=0.001", 1) == greedy


def test_a_batch_of_everything_is_each_alone(server):
    requests = [
        {"policy": FREE, "own": 3},
        {"temperature": 0.8, "seed": 7},
        {"policy": "quadrant", "own": 5},
        {"temperature": 0},
        {"policy": "mirostat:target=1.0", "own": 9},
        {"temperature": 0.8, "top_p": 0.9, "seed": 8},
        {"policy": "edt", "own": 1},
    ]
    alone = [write(server, **request) for request in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda request: write(server, **request), requests))
    assert together == alone


@pytest.mark.parametrize(
    ("given", "body", "found"),
    [
        ({"gibbsian_policy": "nonsense"}, {}, "must be one of adaptive, "),
        ({"gibbsian_policy": "edt:theta=-1"}, {}, "`theta` must be"),
        ({"gibbsian_policy": "quadrant:entropy_low=5,entropy_high=1"}, {}, "low <= high"),
        ({"gibbsian_policy": "edt", "gibbsian_seed": 1.5}, {}, "`gibbsian_seed` must be"),
        ({"gibbsian_polcy": "edt"}, {}, "`gibbsian_polcy` is not a parameter"),
        ({"gibbsian_policy": "edt"}, {"temperature": 0.7}, "`temperature` must be 1"),
        ({"gibbsian_policy": "edt"}, {"temperature": 0}, "`temperature` must be 1"),
        ({"gibbsian_policy": "edt"}, {"top_p": 0.9}, "`top_p` must be 1"),
        ({"gibbsian_policy": "edt", "gibbsian_seed": 1}, {"n": 2}, "`n` must be 1"),
        ({"gibbsian_policy": {"name": "edt"}}, {}, "Input should be a valid string"),
    ],
)
def test_bad_parameters_get_a_400_and_the_server_lives(server, given, body, found):
    status, answer = ask(server, prompt=PROMPT, vllm_xargs=given, **body)
    assert status == 400
    assert found in answer["error"]["message"]
    if isinstance(given.get("gibbsian_policy"), str):
        assert "\n" not in answer["error"]["message"]
    assert len(write(server, "edt", 1, max_tokens=2)) == 2


def test_the_examples_of_the_page_work(server):
    body = json.loads(re.search(r"-d '(.*?)'\n", PAGE, re.DOTALL).group(1)) | {"model": "smollm2"}
    status, answer = ask(server, **body)
    assert status == 200
    assert answer["choices"][0]["text"]
    pytest.importorskip("openai")
    example = re.search(r'```python title="with openai[^"]*"\n(.*?)```', PAGE, re.DOTALL).group(1)
    example = example.replace("http://127.0.0.1:8000", server.url).replace(MODEL, "smollm2")
    names = {}
    exec(compile(example, "serve.md", "exec"), names)  # noqa: S102  (the page is ours)
    names["client"].close()
    assert names["answer"].choices[0].message.content


def test_ctrl_c_ends_the_server_and_all_of_its_processes(server):
    """The last of this file: it ends what the others use."""
    assert write(server, max_tokens=1)
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(timeout=60) == 0, server.log.read_text()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.killpg(server.process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    raise AssertionError("processes are left")
