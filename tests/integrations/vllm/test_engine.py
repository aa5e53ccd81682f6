"""vLLM itself, in this process: SmolLM2 with policies."""

import re
import warnings
from pathlib import Path

import pytest

from tests.integrations.vllm.smollm2 import LENGTH, PROMPT, Reference, environment, folder

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
pytestmark.append(pytest.mark.filterwarnings("ignore"))  # of vLLM's own modules

COUNT = 32
PROMPTS = [PROMPT, "Once upon a time", "The sea was", "def main():"]
REMEMBERING = "mirostat:target=1.5,rate=0.5"


@pytest.fixture(scope="module")
def reference():
    folder()
    return Reference()


@pytest.fixture(scope="module")
def engine():
    """One with a policy of its own, that sets requests aside and reads long prompts in pieces."""
    model = folder()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in environment().items():
            patch.setenv(name, value)
        patch.setenv("GIBBSIAN_POLICY", "fixed:temperature=0")
        from vllm import LLM

        engine = LLM(
            str(model),
            dtype="float32",
            max_model_len=LENGTH,
            enforce_eager=True,
            generation_config="vllm",
            block_size=32,
            num_gpu_blocks_override=9,
            max_num_seqs=12,
            max_num_batched_tokens=32,
            enable_prefix_caching=False,
            disable_log_stats=False,
        )
        yield engine
        engine.llm_engine.engine_core.shutdown()


def write(engine, *requests):
    """Tokens for (prompt, policy, seed) each, in one batch."""
    from vllm import SamplingParams

    parameters = []
    for _, policy, seed in requests:
        given = {"gibbsian_policy": policy, "gibbsian_seed": seed}
        given = {name: value for name, value in given.items() if value is not None}
        parameters.append(
            SamplingParams(max_tokens=COUNT, ignore_eos=True, extra_args=given or None)
        )
    outputs = engine.generate([prompt for prompt, _, _ in requests], parameters, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


@pytest.mark.parametrize("policy", ["free-energy:target_entropy=0.5", REMEMBERING, "quadrant"])
def test_the_tokens_are_those_of_gibbsian_alone(engine, reference, policy):
    (tokens,) = write(engine, (PROMPT, policy, 3))
    assert tokens == reference.tokens(policy, 3, COUNT)
    (other,) = write(engine, (PROMPT, policy, 4))
    assert other != tokens


def test_a_prompt_read_in_pieces_draws_nothing(engine, reference):
    prompt = " ".join([PROMPT] * 6)
    assert len(reference.tokenizer(prompt).input_ids) > 32
    (tokens,) = write(engine, (prompt, REMEMBERING, 3))
    assert tokens == reference.tokens(REMEMBERING, 3, COUNT, prompt)


def test_the_environment_gives_the_policy_of_other_requests(engine, reference):
    (tokens,) = write(engine, (PROMPT, None, None))
    assert tokens == reference.tokens("fixed:temperature=0", 0, COUNT)


def test_requests_set_aside_for_want_of_memory_go_on_where_they_were(engine):
    alone = [write(engine, (prompt, REMEMBERING, i))[0] for i, prompt in enumerate(PROMPTS)]
    assert preemptions(engine) == 0
    several = [(prompt, REMEMBERING, i) for i, prompt in enumerate(PROMPTS)]
    # twelve texts of up to 41 tokens do not fit into nine blocks of 32
    crowd = write(engine, *several, *several, *several)
    assert preemptions(engine) > 0
    assert crowd == alone * 3


def preemptions(engine):
    found = [m for m in engine.get_metrics() if m.name == "vllm:num_preemptions"]
    return sum(metric.value for metric in found)


def test_bad_parameters_are_refused_and_the_engine_lives(engine):
    from vllm.exceptions import VLLMValidationError

    for policy, seed in (("nonsense", 1), ("fixed:temperature=-1", 1), ("edt", "a")):
        with pytest.raises(VLLMValidationError, match=r"^`\w+` must be"):
            write(engine, (PROMPT, policy, seed))
    assert len(write(engine, (PROMPT, "edt", 1))[0]) == COUNT


@pytest.mark.parametrize("page", ["serve.md", "engines.md"])
def test_the_examples_of_the_pages_work(engine, page, monkeypatch, capsys):
    text = (Path(__file__).parents[3] / "docs" / "usage" / page).read_text(encoding="utf-8")
    (example,) = re.findall(r'```python title="with vllm[^"]*"\n(.*?)```', text, re.DOTALL)
    made = []
    # this engine for theirs: it takes minutes to start one that compiles
    monkeypatch.setattr("vllm.LLM", lambda *given, **named: made.append((given, named)) or engine)
    names = {}
    exec(compile(example, page, "exec"), names)  # noqa: S102  (the page is ours)
    assert len(made) == 1
    if page == "engines.md":
        assert names["outputs"][0].outputs[0].text in capsys.readouterr().out
