"""SGLang's own files, as far as they run without its engine: what test_processor.py stands for.

The package is installed without its dependencies (a GPU's); nothing of it is imported but the file
with the base class. From the others single functions and classes are taken.
"""

import ast
import importlib.util
import inspect
import logging
import types
from http import HTTPStatus
from pathlib import Path

import pytest
import torch

from gibbsian.integrations.sglang import NEUTRAL, EntropicLogitProcessor
from gibbsian.integrations.sglang.processor import _WHOLE_VOCABULARY
from tests.integrations.sglang.server import PARAMETERS, Req, Server, install, settle

pytestmark = pytest.mark.engine

for package in ("dill", "orjson"):
    pytest.importorskip(package)


PACKAGE = importlib.util.find_spec("sglang")


def source(name):
    if PACKAGE is None or not PACKAGE.submodule_search_locations:
        pytest.skip("pip install --no-deps sglang==0.5.23")
    return Path(PACKAGE.submodule_search_locations[0]) / name


def taken(name, wanted, **names):
    """A function or class out of one of SGLang's files, without the rest of it."""
    tree = ast.parse(source(name).read_text(encoding="utf-8"))
    found = [node for node in tree.body if getattr(node, "name", None) == wanted]
    assert len(found) == 1
    future = ast.parse("from __future__ import annotations").body
    code = compile(ast.Module(body=[*future, *found], type_ignores=[]), name, "exec")
    exec(code, names)  # noqa: S102  (what is under test)
    return names[wanted]


@pytest.fixture(scope="module")
def base():
    path = source("srt/sampling/custom_logit_processor.py")
    spec = importlib.util.spec_from_file_location("sglang_custom_logit_processor", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CustomLogitProcessor


def test_its_server_makes_our_processor_of_our_text(base):
    made = base.from_str(EntropicLogitProcessor.to_str())
    assert type(made) is EntropicLogitProcessor
    # and what its own serialisation makes of the class does the same
    assert type(base.from_str(base.to_str.__func__(EntropicLogitProcessor))) is type(made)
    ours, theirs = (
        list(inspect.signature(cls.__call__).parameters) for cls in (EntropicLogitProcessor, base)
    )
    assert ours == theirs


@pytest.mark.parametrize("overlap", [False, True])
def test_its_sampler_runs_our_processor(base, monkeypatch, overlap):
    install(monkeypatch)
    apply = taken(
        "srt/layers/sampler.py",
        "apply_custom_logit_processor",
        torch=torch,
        logger=logging.getLogger("sglang"),
    )

    class Batch(list):
        """`SamplingBatchInfo`, as far as the sampler looks at it."""

    class Sampled:
        """Our processor behind theirs: called as the fake server calls it."""

        def __call__(self, logits, given):
            batch = Batch(given)
            batch.device, batch.custom_params = "cpu", given
            rows = list(range(len(given)))
            entry = types.SimpleNamespace(
                processor=base.from_str(EntropicLogitProcessor.to_str()),
                rows=rows,
                indices=torch.tensor(rows),
            )
            batch.custom_logit_processor = {0: entry}
            apply(logits, batch)
            return logits

    steps = torch.randn(5, 2, 100) * 3
    texts = []
    for load in (Sampled, EntropicLogitProcessor):
        reqs = [
            Req({"gibbsian_policy": "mirostat:target=2", "gibbsian_seed": 1}),
            Req({"gibbsian_policy": "edt"}),
        ]
        server = Server(load, overlap=overlap)
        server.read(reqs, steps[0])
        for rows in steps[1:]:
            server.decode(reqs, rows)
        settle(reqs)
        texts.append([list(req.output_ids) for req in reqs])
    assert texts[0] == texts[1]


def test_what_the_fake_server_is_made_from():
    """The lines of SGLang that the processor builds on; another version may have others."""
    requests = source("srt/managers/schedule_batch.py").read_text(encoding="utf-8")
    for line in (
        '"__req__": weakref.proxy(self)',
        "sampling_params.custom_params = sampling_params.custom_params | {",
        'self.output_ids = array("q")',
        "self.decode_batch_idx = 0",
        "req.decode_batch_idx += 1",
        "self.finished_reason = self.to_finish",
    ):
        assert line in requests
    finish = taken(
        "srt/managers/schedule_batch.py",
        "FINISH_ABORT",
        BaseFinishReason=type("BaseFinishReason", (), {}),
    )
    told = finish("why", HTTPStatus.BAD_REQUEST, "BadRequestError").to_json()
    assert told["message"] == "why"
    assert told["status_code"] == 400
    manager = source("srt/managers/tokenizer_manager.py").read_text(encoding="utf-8")
    assert 'raise ValueError(finish_reason["message"])' in manager
    parameters = source("srt/sampling/sampling_params.py").read_text(encoding="utf-8")
    assert "TOP_K_ALL = 1 << 30" in parameters
    assert PARAMETERS["top_k"] == _WHOLE_VOCABULARY == 1 << 30
    for name, value in NEUTRAL.items():
        default = "TOP_K_ALL" if name == "top_k" else value
        assert f"{name}: {type(value).__name__} = {default}" in parameters
    assert "if self.top_k == -1:" in parameters
