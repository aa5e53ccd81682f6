"""Certified bounds hold, visits are counted, exponents are found."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from gibbsian.experiments.studies import pruning, pruning_filters, pruning_sources
from gibbsian.experiments.studies.pruning_fits import exponent, mean, power
from gibbsian.experiments.studies.pruning_intervals import (
    Approximate,
    Known,
    merged_intervals,
    rounded_intervals,
)
from gibbsian.experiments.studies.pruning_measure import (
    CASCADE,
    SETTINGS,
    SPARSITIES,
    certified_reads,
    count,
)
from gibbsian.statistics import gibbs_statistics
from tests.tolerances import IDENTITY


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(16, 200),
    offset=st.sampled_from([0.0, 1.0, 100.0]),
    outlier=st.sampled_from([1.0, 50.0, 1e-4]),
)
def test_no_score_leaves_its_bounds(seed, size, offset, outlier):
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(size, 16, generator=generator)
    keys[:, 3] *= outlier
    keys[size // 2] *= outlier
    keys += offset
    query = torch.randn(5, 16, generator=generator)
    scores = query @ keys.T
    for filter_ in pruning_filters.all_filters(keys, seed):
        lower, upper = filter_.bounds(query)
        if filter_.groups is not None:
            lower, upper = lower[:, filter_.groups], upper[:, filter_.groups]
        assert bool((lower <= scores).all()), filter_.name
        assert bool((scores <= upper).all()), filter_.name


def test_visits_are_those_of_a_search_by_decreasing_bound():
    head = pruning_sources.synthetic_head(pruning_sources.FAMILIES[1], 256, 0)
    rows = pruning_sources.rows_of(head, 256, "decode")
    filters = pruning_filters.all_filters(rows.keys, 0)
    counts = count(rows, filters, tiled=False)
    assert counts.violations == 0
    zeta = SPARSITIES[3]
    setting = SETTINGS.index(f"zeta {zeta}")
    for filter_ in filters:
        total = 0
        for query, last in zip(rows.queries, rows.last.tolist(), strict=True):
            scores = rows.keys[: last + 1] @ query
            upper = filter_.bounds(query[None])[1][0]
            groups = torch.arange(256) if filter_.groups is None else filter_.groups
            members = [torch.nonzero(groups[: last + 1] == g)[:, 0] for g in range(len(upper))]
            found = -math.inf
            for g in upper.argsort(descending=True).tolist():
                if upper[g] <= found - 1 / zeta:
                    break
                if len(members[g]):
                    total += len(members[g])
                    found = max(found, scores[members[g]].max().item())
        visited = counts.visited[filter_.name][setting].item()
        assert visited == pytest.approx(total / len(rows.queries)), filter_.name
    for name, visited in counts.visited.items():
        assert bool((visited >= counts.candidates - 1e-3).all()), name
        assert bool((counts.reads[name] >= visited).all()), name
    assert bool((counts.visited[CASCADE] <= counts.visited["int8, centred"]).all())


def test_a_tile_visits_what_any_of_its_rows_needs():
    head = pruning_sources.synthetic_head(pruning_sources.FAMILIES[2], 512, 1)
    rows = pruning_sources.rows_of(head, 512, "prefill")
    counts = count(rows, pruning_filters.all_filters(rows.keys, 1), tiled=True)
    for name, together in counts.together.items():
        assert bool((together >= counts.visited[name]).all()), name
        assert bool((together <= 512).all()), name


@given(seed=st.integers(0, 10_000), seen=st.integers(1, 39), doubt=st.floats(0.0, 3.0))
def test_the_weight_of_unseen_keys_bounds_entropy_and_varentropy(seed, seen, doubt):
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(40, generator=generator, dtype=torch.float64)
    lower = scores - doubt * torch.rand(40, generator=generator, dtype=torch.float64)
    upper = scores + doubt * torch.rand(40, generator=generator, dtype=torch.float64)
    a = gibbs_statistics(scores[:seen])
    known = Known(
        log_partition=a.log_partition,
        entropy=a.entropy,
        varentropy=a.varentropy,
        rest=torch.tensor(40.0 - seen, dtype=torch.float64),
        log_low=lower[seen:].logsumexp(0),
        log_high=upper[seen:].logsumexp(0),
        largest=upper[seen:].max(),
        smallest=lower[seen:].min(),
    )
    whole = gibbs_statistics(scores)
    entropy, varentropy = merged_intervals(known)
    assert entropy.low - IDENTITY <= whole.entropy <= entropy.high + IDENTITY
    assert varentropy.low - IDENTITY <= whole.varentropy <= varentropy.high + IDENTITY


@given(seed=st.integers(0, 10_000), seen=st.integers(0, 40), error=st.floats(0.0, 2.0))
def test_the_error_of_a_copy_bounds_entropy_and_varentropy(seed, seen, error):
    generator = torch.Generator().manual_seed(seed)
    near = 2 * torch.randn(40, generator=generator, dtype=torch.float64)
    # the worst: every error at its largest
    change = error * torch.randn(40, generator=generator, dtype=torch.float64).sign()
    change[:seen] = 0.0
    approximate, whole = gibbs_statistics(near), gibbs_statistics(near + change)
    probs = near.softmax(0)
    surprisal = -probs.log() - approximate.entropy
    known = Approximate(
        entropy=approximate.entropy,
        varentropy=approximate.varentropy,
        fourth_moment=(probs * surprisal**4).sum(),
        square=error**2 * probs[seen:].sum(),
        error=torch.tensor(error, dtype=torch.float64),
    )
    entropy, varentropy = rounded_intervals(known)
    assert entropy.low - IDENTITY <= whole.entropy <= entropy.high + IDENTITY
    assert varentropy.low - IDENTITY <= whole.varentropy <= varentropy.high + IDENTITY


def test_certified_sparsity_ends_with_all_keys_and_holds():
    head = pruning_sources.synthetic_head(pruning_sources.FAMILIES[2], 256, 0)
    rows = pruning_sources.rows_of(head, 256, "decode")
    for filter_ in pruning_filters.all_filters(rows.keys, 0):
        found = certified_reads(rows, filter_, (0.0, 0.05))
        assert bool(found["holds"].bool().all()), filter_.name
        assert bool((found["zeta +- 0.05"] <= found["zeta +- 0.0"]).all())
        assert bool((found["zeta +- 0.0"] <= rows.last + 1).all())


def test_more_bits_certify_more():
    families = pruning_sources.FAMILIES[:2]
    heads = [pruning_sources.synthetic_head(family, 256, 0) for family in families]
    found = pruning.copies(heads)
    assert list(found) == ["int8", "int8, centred", "int16", "int16, centred"]
    for errors in found.values():
        for of in ("S", "sqrt(V)"):
            for size in ("mean", "largest"):
                assert errors[f"error of {of}"][size] <= errors[f"certified error of {of}"][size]
    largest = [errors["certified error of S"]["largest"] for errors in found.values()]
    assert largest[2] < largest[0] / 100


def test_exponents_of_a_power_law():
    sizes = torch.tensor([256, 1024, 4096])
    factor = torch.tensor([1.0, 2.0, 5.0])[:, None]
    found = exponent(sizes, factor * sizes.double() ** 0.5)
    assert found["exponent"] == found["last"] == 0.5
    assert found["interval"] == [0.5, 0.5]
    cause = torch.rand(4, 30) + 0.5
    found = power(cause, 100 * cause**-2)
    assert found["exponent"] == -2.0
    assert found["rank_correlation"] == pytest.approx(-1.0, abs=1e-2)
    found = mean(torch.tensor([1.0, 3.0]))
    assert found["mean"] == 2.0
    assert found["interval"] == [1.0, 3.0]


def test_recorded_queries_and_keys_give_the_models_scores(tmp_path, monkeypatch):
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    tokens = [7, 3, 60, 5, 9]
    monkeypatch.setattr(
        pruning_sources.AutoTokenizer,
        "from_pretrained",
        lambda _: lambda _: {"input_ids": [*tokens, 1, 1]},
    )
    heads = list(pruning_sources.recorded_heads(tmp_path, "", 5))
    assert len(heads) == 4
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(torch.tensor([tokens]), output_attentions=True).attentions
    for i, head in enumerate(heads):
        scores = head.queries @ head.keys.T
        scores = scores.masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf)
        expected = weights[i // 2][0, 2 * (i % 2) : 2 * (i % 2) + 2]
        torch.testing.assert_close(scores.softmax(-1), expected)


def test_the_command_writes_every_source(tmp_path: Path) -> None:
    output = tmp_path / "new" / "pruning.json"
    small = ["--seeds", "2", "--decode", "512", "--prefill", "512", "--length", "0"]
    pruning.main(["--output", str(output), *small])
    content = json.loads(output.read_text())
    assert len(content["sources"]) == 2 * len(pruning_sources.FAMILIES)
    for source in content["sources"]:
        assert source["violated_bounds"] == 0
        assert len(source["candidates"]["by_keys"]) == len(source["sizes"])
    assert [row["spread"] for row in content["spreads"]] == list(pruning.SPREADS)


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        pruning.main(["--text", "no.txt"])
    assert exit_.value.code != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_interval_of_a_rank_correlation_is_one():
    draw = torch.Generator().manual_seed(235)
    level = 6 * torch.rand(6, 1, generator=draw)
    cause = (level + 0.3 * torch.rand(6, 40, generator=draw)).exp()
    spread = torch.linspace(0, 3, 6).unsqueeze(1)
    effect = (12 - 0.9 * level - spread * torch.rand(6, 40, generator=draw)).exp()
    found = power(cause, effect)
    low, high = found["rank_correlation_interval"]
    assert -1 <= low < found["rank_correlation"] < high <= 1
    # the slope of ranks would reach from -1.4
    assert found["rank_correlation"] == pytest.approx(-0.74, abs=0.01)
