"""The processor as SGLang calls it, beside `step` and `decide`."""

import json
import pickle

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.integrations.sglang import EntropicLogitProcessor
from gibbsian.integrations.sglang.followed import seed_of
from gibbsian.sampling import start, step
from gibbsian.sampling.policies import policy_from_text
from gibbsian.statistics import row_statistics
from tests.integrations.sglang.server import Req, Server, install, settle
from tests.sampling.policies.cases import EVERY

STATES = 300
SEED = {"gibbsian_seed": 1}
MEMORY = {"gibbsian_policy": "mirostat:target=1.5,rate=0.8"}


@pytest.fixture(autouse=True)
def _sglang(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def steps():
    return torch.randn(7, 3, STATES) * 3


def asked(policy, **more):
    return {"gibbsian_policy": json.dumps(policy.to_config())} | more


def run(reqs, steps, *, overlap=False):
    server = Server(EntropicLogitProcessor, overlap=overlap)
    left = [server.read(reqs, steps[0]), *(server.decode(reqs, row) for row in steps[1:])]
    settle(reqs)
    return torch.stack(left)


def stepped(policy, steps, seed):
    state, tokens = start(policy, 1, seed=seed), []
    for logits in steps:
        result = step(logits[None], state, policy=policy)
        state = result.state
        tokens.append(int(result.token))
    return tokens


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("policy", EVERY, ids=lambda p: p.name)
def test_seeds_draw_as_step_does(policy, steps, overlap):
    reqs = [Req(asked(policy, gibbsian_seed=seed)) for seed in (1, 2, 1)]
    run(reqs, steps, overlap=overlap)
    for i, seed in enumerate((1, 2, 1)):
        assert list(reqs[i].output_ids) == stepped(policy, steps[:, i], seed)


@pytest.mark.parametrize(
    "policy", [p for p in EVERY if not p.remembers], ids=lambda policy: policy.name
)
def test_rows_are_what_the_policy_leaves(policy, steps):
    reqs = [Req(asked(policy)), Req(None), Req({"other": 1})]
    left = run(reqs, steps)
    assert torch.equal(left[:, 1:], steps[:, 1:])
    for logits, kept in zip(steps[:, :1], left[:, 0], strict=True):
        decision, _ = policy.decide(row_statistics(logits), policy.start(1, "cpu"))
        assert torch.equal(kept, decision.apply(logits)[0])


def test_a_request_cannot_pretend_to_be_followed_already(steps):
    policy = EVERY[0]
    honest, forged = Req(asked(policy)), Req(asked(policy, __gibbsian__="x"))
    left = run([honest, forged], steps[:, [0, 0]])
    assert torch.equal(left[:, 0], left[:, 1])


@pytest.mark.parametrize("overlap", [False, True])
def test_policies_that_remember_draw_from_a_fresh_seed(steps, overlap):
    one, other = Req(dict(MEMORY), rid="one"), Req(dict(MEMORY), rid="other")
    run([one, other], steps[:, [0, 0]], overlap=overlap)
    assert list(one.output_ids) != list(other.output_ids)
    # as a process beside this one does
    again = Req(dict(MEMORY), rid="one")
    run([again], steps[:, :1])
    assert list(one.output_ids) == list(again.output_ids)
    policy = policy_from_text(MEMORY["gibbsian_policy"])
    assert list(one.output_ids) == stepped(policy, steps[:, 0], seed_of("one"))
    given = Req(dict(MEMORY), {"sampling_seed": 8})
    run([given], steps[:, :1])
    assert list(given.output_ids) == stepped(policy, steps[:, 0], 8)


@pytest.mark.parametrize(
    ("params", "overlap"),
    [
        (MEMORY, False),
        (MEMORY | {"gibbsian_seed": 3}, False),
        (MEMORY | {"gibbsian_seed": 3}, True),
        ({"gibbsian_policy": "edt", "gibbsian_seed": 3}, True),
    ],
)
def test_prompts_read_in_parts_and_again(steps, params, overlap):
    straight, broken = Req(dict(params)), Req(dict(params))
    left = run([straight], steps[:, :1], overlap=overlap)
    server = Server(EntropicLogitProcessor, overlap=overlap)
    server.read([broken], steps[6, 1:2], whole=False)
    server.read([broken], steps[5, 1:2], whole=False)
    assert torch.equal(server.read([broken], steps[0, :1]), left[0])
    for i in range(1, 4):
        assert torch.equal(server.decode([broken], steps[i, :1]), left[i])
    broken.settle()
    server.decode([broken], steps[4, :1])
    # the token of the last step is lost; it is drawn again when the text has been read again
    broken.retract()
    server.read([broken], steps[6, 1:2], whole=False)
    assert torch.equal(server.read([broken], steps[4, :1]), left[4])
    for i in range(5, 7):
        assert torch.equal(server.decode([broken], steps[i, :1]), left[i])
    broken.settle()
    assert list(broken.output_ids) == list(straight.output_ids)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"gibbsian_policy": "edd"}, "must be one of"),
        ({"gibbsian_policy": "edt:theta=-1"}, "theta"),
        ({"gibbsian_policy": "edt", "gibbsian_sed": 1}, "gibbsian_sed"),
        ({"gibbsian_policy": "edt", "gibbsian_seed": 0.5}, "integer"),
        ({"gibbsian_seed": 1}, "needs"),
        ({"gibbsian_policy": '{"name": "quadrant", "insert_token": 300}'}, "insert_token"),
    ],
)
def test_bad_requests_end_with_the_reason_and_others_go_on(steps, params, reason):
    bad, good = Req(params), Req({"gibbsian_policy": "edt", "gibbsian_seed": 1})
    alone = Req({"gibbsian_policy": "edt", "gibbsian_seed": 1})
    run([bad, good], steps[:, :2])
    run([alone], steps[:, 1:2])
    assert bad.to_finish.status_code == 400
    assert bad.to_finish.err_type == "BadRequestError"
    assert reason in bad.to_finish.message
    assert "\n" not in bad.to_finish.message
    assert list(good.output_ids) == list(alone.output_ids)


@pytest.mark.parametrize(
    "parameters", [{"temperature": 0.7}, {"top_p": 0.9}, {"top_k": 1}, {"min_p": 0.1}, {"n": 2}]
)
def test_what_would_not_be_heard_or_bend_the_rest_is_refused(steps, parameters):
    req = Req({"gibbsian_policy": "edt", **SEED}, parameters)
    run([req], steps[:1, :1])
    assert next(iter(parameters)) in req.to_finish.message
    free = Req({"gibbsian_policy": "edt"}, {"n": 2})
    run([free], steps[:1, :1])
    assert free.to_finish is None


def test_speculative_decoding_has_several_rows_a_request(steps):
    processor = EntropicLogitProcessor()
    free, seeded = Req({"gibbsian_policy": "edt"}), Req({"gibbsian_policy": "edt", **SEED})
    rows = steps[:2, 0]
    given = [free.sampling_params.custom_params] * 2
    left = processor(rows.clone(), given)
    assert torch.equal(left[1:], processor(rows[1:].clone(), given[1:]))
    processor(rows.clone(), [seeded.sampling_params.custom_params] * 2)
    assert "speculative" in seeded.to_finish.message


def test_tokens_that_came_in_one_step_are_missed(steps):
    req = Req(dict(MEMORY))
    server = Server(EntropicLogitProcessor)
    server.read([req], steps[0, :1])
    req.settle()
    req.decode_batch_idx += 2
    server.decode([req], steps[1, :1])
    assert "has not seen all" in req.to_finish.message


def test_without_parameters_or_sglang_s_request(steps):
    processor, rows = EntropicLogitProcessor(), steps[0]
    assert torch.equal(processor(rows.clone()), rows)
    assert torch.equal(processor(rows.clone(), [None] * 3), rows)
    left = processor(rows.clone(), [{"gibbsian_policy": "edt"}] * 3)
    assert not torch.equal(left, rows)
    with pytest.raises(ArgumentError, match="old SGLang"):
        processor(rows.clone(), [dict(MEMORY)] * 3)


def test_it_is_sent_by_name():
    text = EntropicLogitProcessor.to_str()
    assert text == EntropicLogitProcessor.to_str()
    sent = bytes.fromhex(json.loads(text)["callable"])
    assert len(sent) < 150
    assert pickle.loads(sent) is EntropicLogitProcessor  # noqa: S301  (it is our own)
