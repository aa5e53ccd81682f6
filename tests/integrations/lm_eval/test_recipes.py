"""lm-evaluation-harness with policies, as docs/usage/engines.md says, on a task of its own."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gibbsian._errors import ArgumentError
from gibbsian.integrations.sglang import EntropicLogitProcessor
from gibbsian.integrations.transformers import CUSTOM_GENERATE, gibbsian_generate
from gibbsian.sampling.policies import EDT
from tests.integrations.lm_eval.small import write_model, write_task

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore"),  # of the harness and what it imports
]
lm_eval = pytest.importorskip("lm_eval")
ROOT = Path(__file__).parents[3]
EDT_BY_NAME = {"custom_generate": CUSTOM_GENERATE, "trust_remote_code": True, "policy": "edt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm_eval")
    write_task(folder)
    write_model(folder / "model")
    return folder


@pytest.fixture(scope="module")
def evaluate(folder):
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(str(folder / "model"), device="cpu", dtype="float32", batch_size=2, max_length=128)
    tasks = TaskManager(include_path=str(folder), include_defaults=False)

    def evaluate(model=model, *, torch_seed=1234, **gen_kwargs):
        done = lm_eval.simple_evaluate(
            model=model,
            tasks=["sums"],
            task_manager=tasks,
            gen_kwargs=gen_kwargs or None,
            torch_random_seed=torch_seed,
            bootstrap_iters=0,
            log_samples=True,
        )
        return [sample["resps"][0][0] for sample in done["samples"]["sums"]]

    evaluate.model = model
    return evaluate


def test_a_policy_writes_the_text(evaluate):
    greedy = evaluate()
    ours = evaluate(**EDT_BY_NAME)
    assert ours == evaluate(**EDT_BY_NAME)
    assert ours not in (greedy, evaluate(torch_seed=1, **EDT_BY_NAME))
    assert len(set(ours)) == len(ours)
    cold = EDT_BY_NAME | {"policy": "fixed:temperature=0"}
    assert evaluate(**cold) == greedy


def test_a_seed_of_its_own(evaluate):
    seeded = EDT_BY_NAME | {"seed": 3}
    assert evaluate(**seeded) == evaluate(torch_seed=1, **seeded)


def test_a_function_from_python(evaluate):
    policy = EDT()

    def with_policy(*arguments, **more):
        return gibbsian_generate(*arguments, policy=policy, **more)

    assert evaluate(custom_generate=with_policy) == evaluate(**EDT_BY_NAME)


def test_prompts_stay_in_batches(evaluate, monkeypatch):
    """Arguments of text are equal; policies as objects would make every prompt a batch."""
    sizes = []
    generate = evaluate.model._model_generate

    def counted(context, *arguments, **more):
        sizes.append(len(context))
        return generate(context, *arguments, **more)

    monkeypatch.setattr(evaluate.model, "_model_generate", counted)
    evaluate(**EDT_BY_NAME)
    assert sizes == [2, 2, 2]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"policy": "edd"}, "`policy` must be one of"),
        ({"policy": "edt:theta=x"}, "`theta` must be a number"),
        ({"policy": None}, "`policy` is missing"),
        ({"min_p": 0.05}, "`min_p` must be an option of the policy"),
        ({"temperature": 0.7, "do_sample": True}, "`temperature` must be an option of the policy"),
    ],
)
def test_a_bad_policy_is_told_in_one_line(evaluate, wrong, reason):
    with pytest.raises(ArgumentError, match=reason) as told:
        evaluate(**EDT_BY_NAME | wrong)
    assert "\n" not in str(told.value)


def test_neutral_arguments_may_stand_beside_a_policy(evaluate):
    neutral = {"temperature": 1.0, "do_sample": True, "top_p": 1.0}
    assert evaluate(**EDT_BY_NAME | neutral) == evaluate(**EDT_BY_NAME)


def command(folder, policy, out):
    arguments = {"custom_generate": CUSTOM_GENERATE, "trust_remote_code": True, "policy": policy}
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args"]
    command += [f"pretrained={folder / 'model'},dtype=float32,max_length=128"]
    command += ["--tasks", "sums", "--include_path", str(folder), "--device", "cpu"]
    command += ["--gen_kwargs", json.dumps(arguments), "--output_path", str(out), "--log_samples"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command(folder, evaluate, tmp_path):
    done = command(folder, "fixed:temperature=0,min_p=0.05", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = next(tmp_path.rglob("samples_sums*.jsonl")).read_text().splitlines()
    samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
    assert [sample["resps"][0][0] for sample in samples] == evaluate()

    refused = command(folder, "edd", tmp_path)
    assert refused.returncode != 0
    said = [line for line in refused.stderr.splitlines() if line.startswith("gibbsian._errors.")]
    assert len(said) == 1
    assert "`policy` must be one of" in said[0]


@pytest.fixture
def server():
    """An OpenAI-compatible server that keeps what it is asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = json.dumps({"choices": [{"index": 0, "text": "4"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/completions", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"vllm_xargs": {"gibbsian_policy": "edt"}},
        {
            "custom_params": {"gibbsian_policy": "edt", "gibbsian_seed": 1},
            "custom_logit_processor": EntropicLogitProcessor.to_str(),
        },
    ],
    ids=["vllm", "sglang"],
)
def test_servers_are_asked_for_the_policy(server, evaluate, arguments):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    url, asked = server
    model = LocalCompletionsAPI(model="any", base_url=url, tokenizer_backend=None)
    assert evaluate(model, temperature=1.0, do_sample=True, **arguments) == ["4"] * 6
    for request in asked:
        assert request | arguments == request
        assert request["temperature"] == 1.0
