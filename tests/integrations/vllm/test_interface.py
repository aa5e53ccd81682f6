"""vLLM's own classes around the plug-in, without a model."""

import importlib.util
import json
import warnings
from random import Random
from types import SimpleNamespace

import pytest
import torch

from tests.integrations.vllm import test_second
from tests.integrations.vllm.engines import SLOTS, STATES, configuration, texts

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore"),  # of vLLM's own modules
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="vLLM is not installed (tests/vllm-requirements.txt)",
    ),
]


@pytest.fixture(scope="module")
def plugin():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gibbsian.integrations.vllm import plugin

        return plugin.EntropicLogitsProcessor


def test_both_runners_load_the_plug_in(plugin):
    from vllm.v1.sample import logits_processor as first
    from vllm.v1.worker.gpu.sample.logits_processor import loader as second

    assert plugin in first._load_logitsprocs_plugins()
    assert plugin in second._load_v2_logitsprocs_plugins()
    given = configuration()
    given.scheduler_config = SimpleNamespace(max_num_seqs=SLOTS)
    made = first.build_logitsprocs(given, torch.device("cpu"), False, False)
    assert plugin in {type(processor) for processor in made.non_argmax_invariant}


@pytest.mark.usefixtures("plugin")
def test_bad_parameters_become_vllm_s_own_error():
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.sample.logits_processor import validate_logits_processors_parameters
    from vllm.v1.worker.gpu.sample.logits_processor import (
        build_custom_logits_processors_params_validator,
    )

    validators = [
        lambda parameters: validate_logits_processors_parameters(None, parameters),
        build_custom_logits_processors_params_validator(None),
    ]
    for validate in validators:
        validate(SamplingParams(temperature=0.3))
        validate(SamplingParams(extra_args={"gibbsian_policy": "edt"}))
        for bad in (
            SamplingParams(extra_args={"gibbsian_policy": "nonsense"}),
            SamplingParams(temperature=0.3, extra_args={"gibbsian_policy": "edt"}),
            SamplingParams(temperature=0.0, extra_args={"gibbsian_policy": "edt"}),
        ):
            with pytest.raises(VLLMValidationError, match=r"^`\w+` must be"):
                validate(bad)


def test_rows_of_vllm_s_own_batch_draw_as_if_alone(plugin):
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import LogitsProcessors
    from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

    processor = plugin(configuration(), torch.device("cpu"), False)
    batch = InputBatch(
        max_num_reqs=SLOTS,
        max_model_len=256,
        max_num_batched_tokens=256,
        device=torch.device("cpu"),
        vocab_size=STATES,
        block_sizes=[16],
        max_num_blocks_per_req=[16],
        logitsprocs=LogitsProcessors([processor]),
    )
    waiting = [
        (
            text,
            CachedRequestState(
                req_id=str(text.number),
                prompt_token_ids=text.prompt,
                mm_features=[],
                sampling_params=text.parameters,
                generator=None,
                block_ids=([0],),
                num_computed_tokens=0,
                output_token_ids=text.output,
            ),
        )
        for text in texts(SamplingParams)
    ]
    everything, running = list(waiting), {}
    chance = Random(8)  # noqa: S311
    for _ in range(120):
        for number in list(running):
            if chance.random() < 0.15:
                batch.remove_request(number)
                waiting.insert(chance.randrange(len(waiting) + 1), running.pop(number))
        while waiting and batch.num_reqs < SLOTS - 2:
            text, state = waiting.pop()
            if chance.random() < 0.5:  # as with asynchronous scheduling
                state.output_token_ids = text.output = list(text.output)
            running[state.req_id] = text, state
            batch.add_request(state)
        batch.condense()
        if batch.num_reqs > 1 and chance.random() < 0.5:
            batch.swap_states(*chance.sample(range(batch.num_reqs), 2))
        batch.refresh_metadata()
        rows = [running[number][0] for number in batch.req_ids]
        logits = torch.stack([text.logits(len(text.output)) for text in rows])
        reading = [text for text in rows if chance.random() < 0.2]
        for i, text in enumerate(rows):
            if text in reading:
                logits[i] = -logits[i]
        left = processor.apply(logits)
        for i, text in enumerate(rows):
            if text not in reading:
                text.take(left[i])
    assert min(len(text.output) for text, _ in everything) > 5
    for text, _ in everything:
        assert text.output == text.expected(), text


def test_the_second_interface_with_vllm_s_own_classes(plugin, monkeypatch):
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

    def second(state, **options):
        lengths = {"prompt_len": state.prompt_len, "prefill_len": state.prefill_len}
        given = LogitsProcRequestState(
            device=torch.device("cpu"),
            max_num_reqs=SLOTS,
            vocab_size=STATES,
            all_token_ids=SimpleNamespace(),
            total_len=SimpleNamespace(),
            **lengths,
        )
        return plugin(configuration(**options), given)

    class Slots(test_second.Slots):
        def __init__(self, **options):
            super().__init__(LogitsContext, second, **options)

    monkeypatch.setattr(test_second, "Slots", Slots)
    monkeypatch.setattr(test_second, "texts", lambda: texts(SamplingParams))
    test_second.test_slots_that_are_taken_and_freed_draw_as_if_alone()
    test_second.test_a_prompt_and_text_read_again_in_pieces_draw_nothing()
    test_second.test_drafts_do_not_change_what_is_drawn()


@pytest.mark.usefixtures("plugin")
def test_a_request_s_arguments_survive_the_way_to_the_engine():
    from vllm import SamplingParams
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    given = {"gibbsian_policy": json.dumps({"name": "edt"}), "gibbsian_seed": (1 << 64) - 1}
    sent = MsgpackEncoder().encode(SamplingParams(extra_args=given))
    assert MsgpackDecoder(SamplingParams).decode(sent).extra_args == given
