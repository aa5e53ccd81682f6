"""What an inspection says of a model is what the model does."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from gibbsian.experiments.inspection import InspectConfig, inspect_model, whole_folder
from gibbsian.experiments.inspection.excerpt import excerpt
from gibbsian.experiments.inspection.measure import HEAD_NAMES, ROW_NAMES
from gibbsian.experiments.inspection.next_token import logits_of
from gibbsian.experiments.inspection.summary import rounded
from gibbsian.experiments.memory import _AliveBytes
from gibbsian.normalizers import entmax
from tests.experiments.inspection import small_models as small
from tests.integrations.transformers.families import DECODERS, batch_for, build
from tests.tolerances import assert_same


class Progress:
    def __init__(self) -> None:
        self.layers: list[tuple[str, int, int]] = []

    def on_layer(self, name: str, done: int, total: int) -> None:
        self.layers.append((name, done, total))

    def on_step(self, text: str) -> None:
        pass


def run(folder: Path, model: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inspection, and the columns of its table."""
    folder.mkdir()
    config = InspectConfig(model=str(model), **options)
    inspection = inspect_model(config, folder, command="a command", observer=Progress())
    assert json.loads((folder / "inspection.json").read_text()) == inspection
    return inspection, pq.read_table(folder / "statistics.parquet").to_pydict()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A decoder's inspection of one text, with its weights (layers, heads, queries, keys)."""
    folder = tmp_path_factory.mktemp("llama")
    model = small.llama(folder / "model")
    text = small.text(folder / "text.txt")
    inspection, columns = run(folder / "out", model, texts=(str(text),), schedule="linear")
    eager = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager")
    tokens = AutoTokenizer.from_pretrained(model)(text.read_text(), return_tensors="pt").input_ids
    with torch.no_grad():
        outputs = eager(tokens, output_attentions=True)
    weights = torch.stack([layer[0] for layer in outputs.attentions])
    return inspection, columns, weights, outputs.logits[0], tokens[0]


def test_every_row_is_in_the_table_once(llama: Any) -> None:
    _, columns, weights, _, tokens = llama
    layers, heads, queries, _ = weights.shape
    assert queries == len(tokens)
    names = ("input", "layer", "head", "query")
    places = list(zip(*(columns[name] for name in names), strict=True))
    wanted = [
        (0, layer, head, query)
        for layer in range(layers)
        for head in range(heads)
        for query in range(queries)
    ]
    assert places == wanted
    assert columns["visible_keys"] == [query + 1 for *_, query in wanted]
    assert set(columns) == {*names, "visible_keys", *ROW_NAMES}


def test_rows_are_those_of_the_model(llama: Any) -> None:
    _, columns, weights, _, tokens = llama
    row = {name: torch.tensor(columns[name]).view(weights.shape[:3]) for name in ROW_NAMES}
    surprisal = -torch.where(weights > 0, weights, 1.0).log()
    entropy = (weights * surprisal).sum(dim=-1)
    varentropy = (weights * (surprisal - entropy.unsqueeze(-1)).square()).sum(dim=-1)
    position = torch.arange(len(tokens), dtype=torch.float32)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(row["entropy"], entropy, **close)
    torch.testing.assert_close(row["varentropy"], varentropy, **close)
    torch.testing.assert_close(row["sink_mass"], weights[..., 0], **close)
    torch.testing.assert_close(row["diagonal_mass"], weights.diagonal(dim1=-2, dim2=-1), **close)
    torch.testing.assert_close(row["attended_distance"], position - weights @ position, **close)
    torch.testing.assert_close(row["free_energy"], row["internal_energy"] - row["entropy"], **close)
    # what the schedule would do, from the weights alone: scores are log p up to a shift
    scores = torch.where(weights > 0, weights, torch.nan).log().nan_to_num(nan=-torch.inf)
    sparse = entmax(scores, row["zeta"].unsqueeze(-1))
    assert 0.1 < row["zeta"].mean() < 0.9
    same = (sparse > 0).sum(dim=-1) == row["support_size"]
    assert same.float().mean() > 0.99  # a weight of 1e-9 may be one of 0 to the other
    torch.testing.assert_close(
        row["sparse_effective_support"], torch.special.entr(sparse).sum(dim=-1).exp(), **close
    )


def test_maps_are_means_of_the_table(llama: Any) -> None:
    inspection, columns, weights, _, _ = llama
    layers, heads, queries, _ = weights.shape
    assert (inspection["layers"], inspection["heads"]) == (layers, heads)
    assert set(inspection["maps"]) == {*ROW_NAMES, *HEAD_NAMES}
    for name in ROW_NAMES:
        means = np.array(columns[name]).reshape(layers, heads, queries).mean(axis=-1)
        np.testing.assert_allclose(inspection["maps"][name], means, rtol=1e-5, atol=1e-6)


def test_maps_of_heads(llama: Any) -> None:
    inspection, _, weights, _, tokens = llama
    assert len(tokens) > inspection["agreement_rows"] == 128
    rows = torch.arange(1, 129) * len(tokens) // 128 - 1
    chosen = weights[:, :, rows]
    distance = (chosen.unsqueeze(1) - chosen.unsqueeze(2)).abs().sum(dim=-1).mean(dim=-1) / 2
    others = distance.sum(dim=-1) / (weights.shape[1] - 1)
    torch.testing.assert_close(
        torch.tensor(inspection["maps"]["agreement"]), others, rtol=1e-4, atol=1e-4
    )
    # a triangular matrix has its eigenvalues on the diagonal, the first of which is 1
    second = weights.diagonal(dim1=-2, dim2=-1)[..., 1:].amax(dim=-1)
    gaps = torch.tensor(inspection["maps"]["eigenvalue_gap"])
    torch.testing.assert_close(gaps, 1 - second, rtol=1e-4, atol=1e-4)
    centred = weights - weights.mean(dim=-2, keepdim=True)
    largest = torch.linalg.matrix_norm(centred, ord=2)
    singular = torch.tensor(inspection["maps"]["singular_gap"])
    torch.testing.assert_close(singular, 1 - largest, rtol=1e-3, atol=1e-3)


def test_histograms_hold_every_row(llama: Any) -> None:
    inspection, columns, weights, _, tokens = llama
    layers, heads, queries, _ = weights.shape
    for name, histogram in inspection["histograms"].items():
        edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
        assert counts.shape == (layers, heads, len(edges) - 1)
        assert (counts.sum(axis=-1) == queries).all()
        assert (np.diff(edges) > 0).all()
        rows = np.array(columns[name])
        assert edges[0] <= rows.min() + 1e-6
        assert rows.max() <= edges[-1] * (1 + 1e-5)
    first = np.array(columns["zeta"])[:queries]
    wanted = np.histogram(first, bins=np.array(inspection["histograms"]["zeta"]["edges"]))[0]
    assert inspection["histograms"]["zeta"]["counts"][0][0] == wanted.tolist()
    assert len(tokens) == queries


def test_support_points_are_rows(llama: Any) -> None:
    inspection, columns, weights, _, _ = llama
    points = inspection["support_points"]
    assert 0 < len(points["layer"]) <= 4000
    known = {
        (layer, head, rounded(zeta), rounded(measured), rounded(predicted))
        for layer, head, zeta, measured, predicted in zip(
            *(columns[name] for name in ("layer", "head", "zeta")),
            columns["sparse_effective_support"],
            columns["predicted_support"],
            strict=True,
        )
    }
    names = ("layer", "head", "zeta", "measured", "predicted")
    assert set(zip(*(points[name] for name in names), strict=True)) <= known
    assert set(points["layer"]) == set(range(weights.shape[0]))
    assert set(points["head"]) == set(range(weights.shape[1]))


def test_tokens_are_expected_as_the_model_expects_them(llama: Any) -> None:
    inspection, _, weights, logits, tokens = llama
    found = inspection["tokens"]
    assert len(found) == len(tokens)
    first, *rest = found
    assert [first[name] for name in ("surprisal", "entropy", "varentropy", "quadrant")] == [
        None
    ] * 4
    log_p = logits[:-1].log_softmax(dim=-1)
    surprisal = -log_p.gather(-1, tokens[1:, None])[:, 0]
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    varentropy = (log_p.exp() * (log_p + entropy[:, None]).square()).sum(dim=-1)
    for name, wanted in (
        ("surprisal", surprisal),
        ("entropy", entropy),
        ("varentropy", varentropy),
    ):
        measured = torch.tensor([token[name] for token in rest])
        torch.testing.assert_close(measured, wanted, rtol=1e-3, atol=1e-4)
        if name != "surprisal":
            assert inspection["thresholds"][name] == pytest.approx(
                float(np.median([token[name] for token in rest])), rel=1e-5
            )
    best = log_p.exp().amax(dim=-1)
    probabilities = [[p for _, p in token["alternatives"]] for token in rest]
    torch.testing.assert_close(torch.tensor(probabilities)[:, 0], best, rtol=1e-3, atol=1e-4)
    assert all(p == sorted(p, reverse=True) and len(p) == 5 for p in probabilities)
    surest = [token for token in rest if token["quadrant"] == "low S, low V"]
    assert all(t["entropy"] <= inspection["thresholds"]["entropy"] for t in surest)
    assert {token["quadrant"].split()[0] for token in rest} == {"low", "high"}
    spread = torch.special.entr(weights).sum(dim=-1).mean(dim=(0, 1))
    of_attention = torch.tensor([token["attention_entropy"] for token in found])
    torch.testing.assert_close(of_attention, spread, rtol=1e-4, atol=1e-4)


def test_the_pieces_give_the_text_back(llama: Any) -> None:
    inspection = llama[0]
    assert "".join(token["text"] for token in inspection["tokens"]) == 2 * small.WORDS
    # four bytes are one character
    assert [t["text"] for t in inspection["tokens"]].count("\U0001f9ea") == 2


@pytest.mark.parametrize("name", DECODERS)
def test_logits_of_a_few_positions_are_those_of_the_whole_model(name: str) -> None:
    model = build(name)
    tokens = batch_for(model).inputs["input_ids"][:1]
    with torch.no_grad():
        whole = model(tokens).logits
        hidden = model.base_model(tokens).last_hidden_state
        part = logits_of(model, hidden[:, 2:5], tokens[:, 2:5])
        assert_same(part, whole[:, 2:5])
        assert_same(model(tokens).logits, whole)


def test_an_encoder(tmp_path: Path) -> None:
    model = small.bert(tmp_path / "model")
    texts = tuple(str(small.text(tmp_path / f"{i}.txt", i)) for i in (1, 2))
    inspection, columns = run(tmp_path / "out", model, texts=texts, tokens=120)
    assert inspection["kind"] == "encoder"
    assert [entry["name"] for entry in inspection["inputs"]] == ["1.txt", "2.txt"]
    first, second = (entry["length"] for entry in inspection["inputs"])
    assert first < second == 120
    assert len(columns["input"]) == 2 * 4 * (first + second)
    tokens = inspection["tokens"]
    assert [token["input"] for token in tokens] == [0] * first + [1] * second
    assert (tokens[0]["text"], tokens[first - 1]["text"]) == ("[CLS]", "[SEP]")
    assert all(token["surprisal"] is None and not token["alternatives"] for token in tokens)
    assert inspection["thresholds"]["entropy"] is None
    eager = AutoModel.from_pretrained(model, attn_implementation="eager")
    encoded = AutoTokenizer.from_pretrained(model)(small.WORDS, return_tensors="pt")
    with torch.no_grad():
        weights = torch.stack(eager(**encoded, output_attentions=True).attentions)[:, 0]
    entropy = torch.tensor(columns["entropy"])[torch.tensor(columns["input"]) == 0]
    wanted = torch.special.entr(weights).sum(dim=-1).flatten()
    torch.testing.assert_close(entropy, wanted, rtol=1e-4, atol=1e-4)


def test_a_vision_model(tmp_path: Path) -> None:
    model, picture = small.vit(tmp_path / "model"), small.image(tmp_path / "a.png")
    inspection, columns = run(tmp_path / "out", model, images=(str(picture),) * 2)
    assert inspection["kind"] == "vision"
    assert inspection["tokens"] is None
    # 16 patches and the class token
    assert inspection["inputs"] == [{"name": "a.png", "length": 17}] * 2
    assert len(columns["input"]) == 2 * 2 * 4 * 17
    half = len(columns["input"]) // 2
    assert columns["entropy"][:half] == columns["entropy"][half:]


def test_thresholds_as_given_and_no_gaps(tmp_path: Path) -> None:
    model, text = small.llama(tmp_path / "model"), small.text(tmp_path / "text.txt")
    inspection, _ = run(
        tmp_path / "out",
        model,
        texts=(str(text),),
        tokens=20,
        gap_positions=0,
        entropy_threshold=100.0,
        varentropy_threshold=0.0,
    )
    assert inspection["thresholds"] == {"entropy": 100.0, "varentropy": 0.0, "how": "as given"}
    rest = inspection["tokens"][1:]
    assert {token["quadrant"] for token in rest} == {"low S, high V"}
    for name in ("eigenvalue_gap", "singular_gap"):
        assert {gap for row in inspection["maps"][name] for gap in row} == {None}


def test_a_model_that_has_diverged_is_shown_as_it_is(tmp_path: Path) -> None:
    model, text = small.llama(tmp_path / "model"), small.text(tmp_path / "text.txt")
    broken = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        broken.model.layers[0].self_attn.v_proj.weight.fill_(math.nan)
    broken.save_pretrained(model)
    inspection, _ = run(tmp_path / "out", model, texts=(str(text),), tokens=10)
    assert None not in inspection["maps"]["entropy"][0]
    assert set(inspection["maps"]["entropy"][1]) == {None}
    assert {token["quadrant"] for token in inspection["tokens"]} == {None}
    assert inspection["thresholds"]["entropy"] is None


def test_a_decoder_without_a_head(tmp_path: Path) -> None:
    whole, text = small.llama(tmp_path / "whole"), small.text(tmp_path / "text.txt")
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(whole).model.save_pretrained(base)
    AutoTokenizer.from_pretrained(whole).save_pretrained(base)
    options = {"texts": (str(text),), "tokens": 10, "gap_positions": 0}
    inspection, columns = run(tmp_path / "out", base, **options)
    assert inspection["kind"] == "causal"
    assert {token["surprisal"] for token in inspection["tokens"]} == {None}
    assert columns == run(tmp_path / "again", whole, **options)[1]


def test_gaps_of_the_first_positions(tmp_path: Path) -> None:
    model, text = small.llama(tmp_path / "model"), small.text(tmp_path / "text.txt")
    long, _ = run(tmp_path / "long", model, texts=(str(text),), tokens=40, gap_positions=16)
    short, _ = run(tmp_path / "short", model, texts=(str(text),), tokens=16)
    for name in ("eigenvalue_gap", "singular_gap"):
        np.testing.assert_allclose(long["maps"][name], short["maps"][name], atol=1e-4)
    assert (long["gap_positions"], short["gap_positions"]) == (16, 16)


def test_memory_grows_with_the_length_not_its_square(tmp_path: Path) -> None:
    model = small.llama(tmp_path / "model", max_position_embeddings=8192)
    text = small.text(tmp_path / "text.txt", 60)
    peaks = []
    for length in (1024, 2048):
        with _AliveBytes(()) as counter:
            inspection, _ = run(
                tmp_path / f"{length}", model, texts=(str(text),), tokens=length, gap_positions=256
            )
        assert inspection["inputs"][0]["length"] == length
        peaks.append(counter.peak)
    growth = [math.log2(b / a) for a, b in pairwise(peaks)]
    assert max(growth) < 1.2, peaks
    # numbers a row, no matrix: 2048^2 float32 of four heads are 64 MiB
    assert peaks[-1] < 24 << 20


def test_the_bar_reaches_the_end(tmp_path: Path) -> None:
    model, text = small.llama(tmp_path / "model"), small.text(tmp_path / "text.txt")
    progress = Progress()
    folder = tmp_path / "out"
    folder.mkdir()
    config = InspectConfig(model=str(model), texts=(str(text),) * 2, tokens=8, gap_positions=0)
    inspect_model(config, folder, command="", observer=progress)
    assert [done for _, done, _ in progress.layers] == [0, 1, 2, 2, 3, 4]
    assert {total for *_, total in progress.layers} == {4}


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "new" / "out") as folder:
            (folder / "statistics.parquet").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list((tmp_path / "new").iterdir())
    with whole_folder(tmp_path / "new" / "out") as folder:
        (folder / "inspection.json").write_text("{}")
        assert not (tmp_path / "new" / "out").exists()
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["inspection.json"]


def test_an_excerpt_names_the_model_and_keeps_what_is_quoted(llama: Any) -> None:
    inspection = llama[0]
    command = f"gibbsian inspect {inspection['model']} --text text.txt"
    found = excerpt(inspection | {"command": command}, "a-llama")
    assert inspection["model"] not in json.dumps(found)
    assert found["command"] == "gibbsian inspect a-llama --text text.txt"
    np.testing.assert_allclose(
        found["maps"]["entropy"], inspection["maps"]["entropy"], rtol=5e-3, atol=1e-6
    )
    rest = inspection["tokens"][1:]
    assert found["tokens"]["count"] == len(rest) == sum(found["tokens"]["quadrants"].values())
    surprisals = [token["surprisal"] for token in rest]
    assert found["tokens"]["mean_surprisal"] == pytest.approx(np.mean(surprisals), rel=1e-4)
    for part in found["support"]:
        inside = [
            max(measured / predicted, predicted / measured)
            for zeta, measured, predicted in zip(
                *(inspection["support_points"][n] for n in ("zeta", "measured", "predicted")),
                strict=True,
            )
            if part["zeta_above"] < zeta <= part["zeta_to"]
        ]
        assert part["rows"] == len(inside)
        assert part["median_factor"] == pytest.approx(np.median(inside), rel=1e-2)
        assert part["within_factor_2"] == pytest.approx(np.mean(np.array(inside) <= 2), rel=1e-3)
