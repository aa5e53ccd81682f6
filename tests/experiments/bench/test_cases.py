"""What cases refuse: a sparsity that is not the schedule's, a loss that is no number."""

from dataclasses import replace

import pytest
import torch

from gibbsian.experiments.bench import all_cases, decoders
from gibbsian.experiments.bench.case import Check, Ratio
from gibbsian.experiments.bench.memory import require_memory
from gibbsian.experiments.bench.models import (
    VALUES_ONLY,
    build_nystromformer,
    build_roberta,
    masked_tokens,
    predict_masked,
    require_finite,
    set_attention,
)
from gibbsian.experiments.bench.run import BenchConfig, has_failed, run_case
from gibbsian.experiments.bench.shapes import QUICK as SHAPES
from gibbsian.experiments.bench.verify import call_for_check, verify
from gibbsian.normalizers.schedules import SmoothStep
from tests.experiments.bench import small_cases as small

QUICK = all_cases(quick=True)


def checked():
    case = QUICK["aes-decoding-256"]
    contender, tensors = case.contender("AES, key index"), case.fresh_tensors()
    operation = contender.prepare(tensors)
    return verify(case, contender, operation, tensors, call_for_check(case, contender, operation))


def test_the_index_is_timed_at_the_default_tolerance():
    assert decoders.TOLERANCE == 0.02
    assert "certified 0.02 nats" in QUICK["aes-decoding-256"].contender("AES, key index").note


def test_a_sparsity_that_is_not_the_schedule_s_is_wrong(monkeypatch):
    assert checked().passed
    honest = decoders.aes_decode

    def other(*args, **options):
        return honest(*args, **options | {"schedule": SmoothStep(zeta_max=0.9)})

    # output and sparsity agree with each other: the schedule alone tells
    monkeypatch.setattr(decoders, "aes_decode", other)
    assert not checked().passed


@pytest.mark.parametrize("broken", ["bias", "weight"])
def test_a_gradient_that_is_not_finite_is_named(broken):
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    require_finite(model)
    getattr(model, broken).grad[0] = float("nan")
    with pytest.raises(FloatingPointError, match=f"gradient of {broken} is not finite"):
        require_finite(model)


@pytest.mark.parametrize("quantity", ["seconds", "bytes"])
def test_an_iteration_without_a_finite_loss_fails(quantity):
    kind = "iteration" if quantity == "seconds" else "memory"
    case = QUICK[f"model-{kind}-128"]
    contender = replace(
        case.contenders[0], check=lambda: Check(error=0.0, bound=1.0, against="nothing")
    )
    config = BenchConfig(repeats=1, budget=0.0, threads=1, quick=True)
    alone = replace(case, contenders=(contender,), ratios=())
    found = run_case(alone, config, small.Silent())["contenders"][contender.name]
    assert found["status"] == "ok"
    prepare = contender.prepare

    def overflowing(tensors):
        operation = prepare(tensors)

        def after():
            raise FloatingPointError("the iteration's gradient is not finite")

        return replace(operation, after=after)

    alone = replace(alone, contenders=(replace(contender, prepare=overflowing),))
    found = run_case(alone, config, small.Silent())["contenders"][contender.name]
    assert found["status"] == "failed"
    assert "FloatingPointError" in found["detail"]


@pytest.mark.parametrize("kind", ["iteration", "memory"])
def test_one_that_is_left_out_says_why_and_the_others_run(kind):
    case = QUICK[f"model-{kind}-128"]
    reason = "its weights would not fit"
    left_out = replace(case.contender("softmax, N x N"), left_out=reason)
    case = replace(
        case,
        contenders=(case.contender("no attention"), left_out),
        ratios=(Ratio(of="no attention", to="softmax, N x N"),),
    )
    config = BenchConfig(repeats=1, budget=0.0, threads=1, quick=True)
    found = run_case(case, config, small.Silent())
    assert found["contenders"]["no attention"]["status"] == "ok"
    entry = found["contenders"]["softmax, N x N"]
    assert (entry["status"], entry["detail"]) == ("not run", reason)
    assert not {"seconds", "bytes"} & set(entry)
    assert found["ratios"][0]["ratio"] is None
    assert found["ratios"][0]["reason"] == "softmax, N x N not run"
    assert not has_failed(found)


def test_without_attention_no_position_knows_of_another_and_all_layers_are_trained():
    model = build_roberta(SHAPES, 16)
    tokens = torch.arange(5, 13)[None]
    with torch.no_grad():
        softmax = model(input_ids=tokens).logits
        set_attention(model, "eager")
        torch.testing.assert_close(model(input_ids=tokens).logits, softmax)
        set_attention(model, VALUES_ONLY)
        before = model(input_ids=tokens).logits
        tokens[0, 3] = 20
        after = model(input_ids=tokens).logits
    changed = (before != after).any(dim=-1)[0]
    assert changed.tolist() == [position == 3 for position in range(8)]
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    attention = model.roberta.encoder.layer[0].attention.self
    assert attention.query.weight.grad.count_nonzero() == 0
    assert attention.key.weight.grad.count_nonzero() == 0
    assert attention.value.weight.grad.count_nonzero() > 0


@pytest.mark.parametrize("build", [build_roberta, build_nystromformer])
def test_the_loss_is_transformers_own_of_the_masked_positions(build):
    model = build(SHAPES, 128)
    tensors = masked_tokens(SHAPES, 128)
    masked = tensors["masked"]
    assert masked.sum() == 19  # 15 %
    assert (tensors["input_ids"] == SHAPES.model_vocabulary - 1).equal(masked)
    labels = torch.full_like(tensors["input_ids"], -100).masked_scatter(masked, tensors["targets"])
    expected = model(input_ids=tensors["input_ids"], labels=labels)
    logits, loss = predict_masked(model, tensors, "float32")
    torch.testing.assert_close(loss, expected.loss)
    torch.testing.assert_close(logits, expected.logits[masked])
    assert logits.dtype == torch.float32
    assert predict_masked(model, tensors, "bfloat16")[0].dtype == torch.bfloat16


def test_what_would_not_fit_is_refused_before_it_is_tried():
    require_memory(1)
    with pytest.raises(MemoryError, match="End other programs"):
        require_memory(10**18)
