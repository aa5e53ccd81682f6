"""Rows of an engine that come and go, against each sequence stepped alone."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.integrations.serving import Request, filter_rows, request_from_parameters
from gibbsian.normalizers import Constant, Gated, LearnableConstant, SmoothStep
from gibbsian.sampling import Decision, start, step
from gibbsian.sampling.policies import EDT, POLICIES, AESPolicy, FreeEnergy, Mirostat, Quadrant
from gibbsian.statistics import row_statistics

STATES = 50


def policies():
    given = {"free-energy": FreeEnergy(target_entropy=1.0), "quadrant": Quadrant(insert_token=7)}
    return [given.get(name) or cls() for name, cls in POLICIES.items()]


def logits_of(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, STATES, generator=generator) * torch.linspace(0.3, 5, rows)[:, None]


@pytest.mark.parametrize("policy", policies(), ids=lambda policy: policy.name)
def test_with_a_seed_the_tokens_are_those_of_step_alone(policy):
    seeds = [3, 4, 11]
    requests = [Request(policy=policy, seed=seed) for seed in seeds]
    states = [start(policy, 1, seed=seed) for seed in seeds]
    taken = [None] * 3
    for i in range(6):
        logits = logits_of(3, i)
        expected = []
        for row in range(3):
            token, states[row], _ = step(logits[row : row + 1], states[row], policy=policy)
            expected.append(int(token))
        order = torch.randperm(3, generator=torch.Generator().manual_seed(i)).tolist()
        left = filter_rows(
            logits[order].clone(), [requests[j] for j in order], [taken[j] for j in order]
        )
        assert left.gt(-torch.inf).sum(-1).tolist() == [1, 1, 1]
        assert left.argmax(-1).tolist() == [expected[j] for j in order]
        taken = expected


@pytest.mark.parametrize("policy", policies(), ids=lambda policy: policy.name)
def test_without_a_seed_the_rows_are_those_of_the_decision(policy):
    request, state, taken = Request(policy=policy), policy.start(1, "cpu"), None
    for i in range(5):
        logits = logits_of(4, i)[2:3]
        statistics = row_statistics(logits)
        decision, state = policy.decide(statistics, state)
        expected = decision.apply(logits)
        left = filter_rows(logits.clone(), [request], [taken])
        assert torch.equal(left, expected)
        # the engine takes the least probable of what was left
        taken = int(torch.where(left > -torch.inf, left, torch.inf).argmin())
        surprisal = statistics.log_partition - logits[:, taken]
        state = policy.observe(state, surprisal)


def test_rows_without_a_request_are_untouched_and_sequences_do_not_mix():
    logits = logits_of(4, 0)
    requests = [None, Request(policy=EDT()), None, Request(policy=Mirostat(target=0.5))]
    left = filter_rows(logits.clone(), requests, [None] * 4)
    assert torch.equal(left[[0, 2]], logits[[0, 2]])
    for row in (1, 3):
        alone = Request(policy=requests[row].policy)
        assert torch.equal(
            left[row : row + 1], filter_rows(logits[row : row + 1].clone(), [alone], [None])
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Own(EDT):
    """A policy of one's own, with what no description can hold."""

    name: ClassVar[str] = "own"

    warm: object = None
    insert_token: int | None = None

    def decide(self, statistics, state, attention=None):
        del attention
        return Decision(temperature=self.warm(statistics)), state


def two(make):
    """Two policies whose descriptions, if they have one, are equal, and which decide otherwise."""
    first, second = make(), make()
    if isinstance(first, AESPolicy):
        learned = second.schedule
        learned = learned.constant if isinstance(learned, Gated) else learned
        torch.nn.init.constant_(learned.raw_zeta, 3.0)
    return first, second


@pytest.mark.parametrize(
    ("first", "second"),
    [
        two(lambda: AESPolicy(schedule=LearnableConstant(zeta=0.1))),
        two(
            lambda: AESPolicy(
                schedule=Gated(
                    schedule=SmoothStep(), constant=LearnableConstant(zeta=0.1), mode="fixed"
                )
            )
        ),
        (
            AESPolicy(schedule=lambda statistics: statistics.max_prob),
            AESPolicy(schedule=lambda statistics: 0.5 * statistics.max_prob),
        ),
        (
            Own(warm=lambda statistics: statistics.entropy, insert_token=STATES - 1),
            Own(warm=lambda statistics: 0.5 + statistics.max_prob),
        ),
    ],
    ids=["learned", "learned in a gate", "any map", "a policy of one's own"],
)
def test_what_a_description_leaves_out_is_not_lost(first, second):
    logits = logits_of(2, 0)
    requests = [request_from_parameters({}, default=p, states=STATES) for p in (first, second)]
    left = filter_rows(logits.clone(), requests, [None, None])
    for policy, row, kept in zip((first, second), logits.split(1), left.split(1), strict=True):
        decision, _ = policy.decide(row_statistics(row), policy.start(1, "cpu"))
        assert torch.equal(kept, decision.apply(row))


def test_equal_policies_are_computed_together():
    for make in (
        EDT,
        AESPolicy,
        lambda: AESPolicy(schedule=Gated(schedule=SmoothStep(), constant=0.1)),
        lambda: AESPolicy(schedule=Constant(zeta=0.3)),
    ):
        assert Request(policy=make()).kind == Request(policy=make()).kind
    learned = AESPolicy(schedule=LearnableConstant())
    assert Request(policy=learned).kind == Request(policy=learned).kind
    assert Request(policy=learned).kind != Request(policy=learned, seed=1).kind


def test_a_sequence_that_begins_anew_forgets():
    policy = Mirostat(target=3.0, rate=5.0)
    request = Request(policy=policy)
    first = filter_rows(logits_of(1, 0), [request], [None]).clone()
    moved = filter_rows(logits_of(1, 0), [request], [int(first.argmin())])
    assert not torch.equal(first, moved)
    assert torch.equal(filter_rows(logits_of(1, 0), [request], [None]), first)


def test_half_precision_rows_keep_their_type():
    logits = logits_of(2, 0).bfloat16()
    left = filter_rows(logits.clone(), [Request(policy=EDT(), seed=1), None], [None, None])
    assert left.dtype == torch.bfloat16
    assert torch.equal(left[1], logits[1])


def test_parameters():
    assert request_from_parameters(None) is None
    assert request_from_parameters({"temperature": 3, "other": "x"}) is None
    text = request_from_parameters({"gibbsian_policy": "edt:temperature=0.5", "gibbsian_seed": 7})
    described = EDT(temperature=0.5).to_config()
    as_json = request_from_parameters({"gibbsian_policy": json.dumps(described)})
    assert text.policy.to_config() == as_json.policy.to_config() == described
    assert (text.seed, as_json.seed) == (7, None)
    assert request_from_parameters({"gibbsian_policy": described}).policy.temperature == 0.5
    assert request_from_parameters({"gibbsian_seed": 2}, default=EDT()).policy.name == "edt"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gibbsian_temperature": 1}, "`gibbsian_temperature` is not a parameter. There are gib"),
        ({"gibbsian_policy": "quadrat"}, "`policy` must be one of adaptive"),
        ({"gibbsian_policy": "edt:temperature=-1"}, "`temperature` must be"),
        ({"gibbsian_policy": 3}, "must be NAME, NAME:OPTION=VALUE,... or a JSON object, got 3"),
        ({"gibbsian_policy": "{name"}, "must be JSON if it begins with a brace"),
        (
            {"gibbsian_policy": {"name": "fixed", "temperature": "hot"}},
            "`temperature` must be a list or a number, got 'hot'",
        ),
        (
            {"gibbsian_policy": {"name": "fixed", "temperature": [1, 2]}},
            "must be one value in a request",
        ),
        (
            {"gibbsian_policy": {"name": "fixed", "top_k": 2.5}},
            "`top_k` must be a list or an integer or null, got 2.5",
        ),
        (
            {"gibbsian_policy": {"name": "fixed", "p_less": "x", "min_p": {}}},
            "`p_less` must be bool, got 'x'|`min_p` must",
        ),
        ({"gibbsian_policy": {"name": "aes", "schedule": 3}}, "`schedule` must be Schedule, got 3"),
        (
            {"gibbsian_policy": {"name": "quadrant", "thresholds": 3}},
            "`thresholds` must be Thresholds, got 3",
        ),
        ({"gibbsian_policy": {"name": "quadrant", "insert_token": -2}}, "token's number >= 0"),
        ({"gibbsian_policy": {"name": "quadrant", "insert_token": 60}}, "0 to 49, got 60"),
        ({"gibbsian_policy": "edt", "gibbsian_seed": "1"}, "`gibbsian_seed` must be an integer"),
        ({"gibbsian_policy": "edt", "gibbsian_seed": True}, "`gibbsian_seed` must be an integer"),
        ({"gibbsian_seed": 1}, "`gibbsian_seed` needs `gibbsian_policy`"),
    ],
)
def test_parameters_that_are_refused_before_they_reach_the_engine(parameters, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        request_from_parameters(parameters, states=STATES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "policy",
    [
        {"name": "adaptive", "candidates": 10**9},
        {"name": "adaptive", "candidates": 10**30},
        {"name": "quadrant", "insert_token": 10**12},
        {"name": "quadrant", "insert_token": 1.5},
        {"name": "quadrant", "insert_token": True},
        {"name": "mirostat", "target": 10**30},
        {"name": "aes", "schedule": {"name": "smooth_step", "bounds": 3}},
        {"name": "aes", "schedule": []},
    ],
)
def test_what_would_end_the_engine_is_refused_before_it_gets_there(policy):
    with pytest.raises(ArgumentError, match=r"^`"):
        request_from_parameters({"gibbsian_policy": json.dumps(policy)})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "mirostat", "target": [[1.0]]}, "`target` must be one value in a request"),
        ({"name": "fixed", "temperature": 10**20}, "`temperature` must be at most 1e.06 in a req"),
        ({"name": "aes", "schedule": {"name": "learnable_ramp", "num_heads": 10**9}}, "`num_heads"),
        (
            {"name": "aes", "schedule": {"name": "constant", "zeta": [0.5] * 4}},
            "`zeta` must be one",
        ),
        ("aes:schedule=learnable_ramp,num_heads=1e9", "`num_heads` must be at most"),
        ("edt:temperature=1e39", "`temperature` must be at most"),
    ],
)
def test_options_of_a_request_are_plain_numbers_of_a_sane_size(asked, message):
    with pytest.raises(ArgumentError, match=message):
        request_from_parameters({"gibbsian_policy": asked})


def test_a_cold_row_in_half_precision_stays_finite():
    logits = torch.tensor([[20.0, 19.9, 0.0]], dtype=torch.float16)
    request = request_from_parameters({"gibbsian_policy": "fixed:temperature=0.0002"})
    left = filter_rows(logits.clone(), [request], [None])
    assert left.softmax(dim=-1).tolist() == [[1.0, 0.0, 0.0]]


def test_a_token_to_insert_must_be_in_the_vocabulary():
    given = {"gibbsian_policy": '{"name": "quadrant", "insert_token": 49151}'}
    assert request_from_parameters(given, states=49152).policy.insert_token == 49151
    with pytest.raises(ArgumentError, match="0 to 49150, got 49151"):
        request_from_parameters(given, states=49151)
