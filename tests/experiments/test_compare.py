import json
import math

import pytest
import torch

from gibbsian._errors import ArgumentError, CheckpointError, DataError
from gibbsian.experiments import compare, stored_config
from gibbsian.experiments.attentions import make_attention
from gibbsian.experiments.corpus import load_corpus
from gibbsian.experiments.models import build_model
from gibbsian.experiments.results import summarise_runs, thin
from gibbsian.experiments.windows import TrainingExamples
from gibbsian.integrations.transformers import use
from tests.experiments.tiny import tiny_config


class Observed:
    def __init__(self):
        self.runs = []
        self.steps = []

    def on_run(self, *call):
        self.runs.append(call)

    def on_step(self, step, loss):
        self.steps.append((step, loss))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    config = tiny_config(folder, attentions=("softmax", "entmax:zeta=0.0", "aes"), seeds=(0, 1))
    observed = Observed()
    return config, folder / "out", compare(config, folder / "out", observer=observed), observed


def records(out, run, name):
    return [json.loads(line) for line in (out / "runs" / run / name).read_text().splitlines()]


def test_results_are_written_and_returned(finished):
    config, out, results, observed = finished
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    assert [row["attention"] for row in results["summary"]] == list(config.attentions)
    assert [(run["attention"], run["seed"]) for run in results["runs"]] == [
        (attention, seed) for seed in (0, 1) for attention in config.attentions
    ]
    assert stored_config(out) == config
    assert [call[0] for call in observed.runs[:2]] == ["softmax-seed0", "entmax_zeta=0.0-seed0"]
    assert [step for step, _ in observed.steps] == [1, 2, 3, 4, 5, 6] * 6


def test_every_step_and_probe_is_recorded(finished):
    _, out, _, observed = finished
    steps = records(out, "softmax-seed0", "steps.jsonl")
    assert [(r["step"], r["loss"]) for r in steps] == observed.steps[:6]
    # warm-up of one step (a tenth of six, rounded), then down to almost 0
    rates = [r["learning_rate"] for r in steps]
    assert rates[0] == 0.0
    assert rates[1] == max(rates) == 2e-3
    assert all(r["seconds"] > 0 and r["gradient_norm"] > 0 for r in steps)
    probes = records(out, "aes-seed0", "probes.jsonl")
    assert [r["step"] for r in probes] == [0, 4, 6]
    assert len(probes[0]["layers"]) == 1
    assert 0 <= probes[0]["layers"][0]["support_fraction"] <= 1
    assert list((out / "runs" / "aes-seed0" / "tensorboard").glob("events.*"))


def test_all_attentions_start_from_the_same_weights_and_see_the_same_data(finished):
    _, out, _, _ = finished
    softmax, entmax = (
        records(out, f"{name}-seed0", "steps.jsonl") for name in ("softmax", "entmax_zeta=0.0")
    )
    # sparsity 0 is softmax: equal up to rounding all along
    for one, other in zip(softmax, entmax, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    other_seed = records(out, "softmax-seed1", "steps.jsonl")
    assert other_seed[0]["loss"] != softmax[0]["loss"]


def test_what_softmax_costs_and_does(finished):
    config, _, results, _ = finished
    softmax = results["summary"][0]
    assert softmax["seeds"] == [0, 1]
    assert softmax["zeta"] == 0
    assert softmax["support_fraction"] == 1
    assert softmax["score_products"] == softmax["value_products"] == 2 * (16 + 1) / 2
    assert 0 < softmax["entropy"] < math.log(config.context)
    assert len({row["parameters"] for row in results["summary"]}) == 1
    assert softmax["validation_bits_per_byte_spread"] > 0


def test_the_same_seed_gives_the_same_results(finished, tmp_path):
    _, out, _, _ = finished
    again = tiny_config(tmp_path, attentions=("aes",))
    compare(again, tmp_path / "out", observer=Observed())
    first, second = (
        [(r["loss"], r["gradient_norm"]) for r in records(folder, "aes-seed0", "steps.jsonl")]
        for folder in (out, tmp_path / "out")
    )
    assert first == second


def test_encoder_learns_masked_bytes(tmp_path):
    config = tiny_config(tmp_path, model="encoder", attentions=("aes",), steps=60, batch=16)
    results = compare(config, tmp_path / "out", observer=Observed())
    probes = results["runs"][0]["probes"]
    assert probes[-1]["bits_per_byte"] < probes[0]["bits_per_byte"] - 1
    # the encoder sees all keys
    assert results["summary"][0]["score_products"] == 2 * 16


def test_byte_pairs_are_reported_in_bits_per_byte(tmp_path):
    config = tiny_config(tmp_path, attentions=("softmax",), tokens="bpe:300")
    results = compare(config, tmp_path / "out", observer=Observed())
    assert results["text"]["tokens"] == 300
    # untrained: about log2(300) bits a token, and tokens hold more than two bytes here
    assert results["summary"][0]["validation_bits_per_byte"] < 0.6 * math.log2(300)


def test_finished_runs_are_not_run_again(finished):
    config, out, results, _ = finished
    observed = Observed()
    again = compare(config, out, observer=observed, resume=True)
    assert observed.steps == []
    assert [call[3:] for call in observed.runs] == [(6, 6)] * 6
    assert again["summary"] == results["summary"]


def test_resuming_with_other_settings_is_refused(finished):
    config, out, _, _ = finished
    changed = tiny_config(out.parent, attentions=config.attentions, seeds=config.seeds, steps=7)
    with pytest.raises(CheckpointError, match=r"other settings \(steps: 6 -> 7\)"):
        compare(changed, out, observer=Observed(), resume=True)


def test_resuming_with_a_changed_text_is_refused(tmp_path):
    config = tiny_config(tmp_path, attentions=("softmax",), steps=1)
    compare(config, tmp_path / "out", observer=Observed())
    text = tmp_path / "text.txt"
    text.write_text(text.read_text().replace("line 7:", "line 8:"))
    with pytest.raises(CheckpointError, match=r"other settings \(text: "):
        compare(config, tmp_path / "out", observer=Observed(), resume=True)


def test_another_comparison_is_not_overwritten(finished):
    config, out, _, _ = finished
    with pytest.raises(ArgumentError, match=r"must not hold another comparison.*--resume"):
        compare(config, out, observer=Observed())


def test_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match=r"must hold a comparison to resume"):
        stored_config(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"config": {}}', '{"config": {"steps": 1}}'])
def test_a_damaged_configuration(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be used") as caught:
        stored_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_named(tmp_path):
    config = tiny_config(tmp_path, attentions=("softmax",))
    out = tmp_path / "out"
    compare(config, out, observer=Observed())
    (out / "runs" / "softmax-seed0" / "result.json").unlink()
    weights = out / "runs" / "softmax-seed0" / "checkpoints" / "checkpoint-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged"):
        compare(config, out, observer=Observed(), resume=True)


def test_a_damaged_result_is_named(tmp_path):
    config = tiny_config(tmp_path, attentions=("softmax",), steps=1)
    out = tmp_path / "out"
    compare(config, out, observer=Observed())
    (out / "runs" / "softmax-seed0" / "result.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"result.json is damaged.*Delete the folder"):
        compare(config, out, observer=Observed(), resume=True)


def test_out_that_cannot_be_written(tmp_path):
    config = tiny_config(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"`out` must be a folder that can be written"):
        compare(config, tmp_path / "file" / "out", observer=Observed())


def test_bad_input_is_found_before_anything_is_written(tmp_path):
    for changes, error in (
        ({"attentions": ("softmax", "nonsense")}, ArgumentError),
        ({"text": (str(tmp_path / "absent.txt"),)}, DataError),
        ({"context": 4096}, DataError),
    ):
        with pytest.raises(error):
            compare(tiny_config(tmp_path, **changes), tmp_path / "out", observer=Observed())
        assert not (tmp_path / "out").exists()


def test_summary_averages_over_seeds_and_keeps_a_diverged_run():
    names = ("entropy", "varentropy", "zeta", "support_fraction", "score_products")
    names += ("value_products", "step_seconds", "peak_memory_bytes", "parameters")
    runs = [
        {"attention": "aes", "seed": seed, "validation_bits_per_byte": loss}
        | dict.fromkeys(names, 2.0)
        for seed, loss in ((0, 1.0), (1, 2.0))
    ]
    row = summarise_runs(runs)[0]
    assert row["validation_bits_per_byte"] == 1.5
    assert row["validation_bits_per_byte_spread"] == pytest.approx(0.5**0.5)
    assert row["zeta"] == 2.0
    assert summarise_runs(runs[:1])[0]["validation_bits_per_byte_spread"] is None
    runs[1]["validation_bits_per_byte"] = None
    assert summarise_runs(runs)[0]["validation_bits_per_byte"] is None


def test_curves_are_thinned_by_means():
    records = [{"step": i + 1, "loss": float(i)} for i in range(1000)]
    curve = thin(records, "loss")
    assert len(curve["step"]) == 334
    assert curve["step"][:2] == [3, 6]
    assert curve["loss"][:2] == [1.0, 4.0]
    assert curve["step"][-1] == 1000
    assert thin([{"step": 1, "loss": None}], "loss") == {"step": [1], "loss": [None]}


def test_steps_see_the_examples_in_their_order(finished):
    config, out, _, _ = finished
    corpus = load_corpus(config)
    examples = TrainingExamples(corpus.train, 24, kind="decoder", mask_token=256, seed=0)
    model = use(build_model(config, 256, 0), make_attention("aes")).eval()
    losses = [r["loss"] for r in records(out, "aes-seed0", "steps.jsonl")]
    # the warm-up starts at 0: two steps with the initial weights
    for step in (0, 1):
        batch = [examples[4 * step + i] for i in range(4)]
        inputs = {key: torch.stack([e[key] for e in batch]) for key in ("input_ids", "labels")}
        with torch.no_grad():
            assert losses[step] == pytest.approx(float(model(**inputs).loss), rel=1e-5)


def test_a_diverged_run_is_recorded_as_such(tmp_path):
    config = tiny_config(tmp_path, attentions=("softmax",), learning_rate=1e30)
    results = compare(config, tmp_path / "out", observer=Observed())
    assert records(tmp_path / "out", "softmax-seed0", "steps.jsonl")[-1]["loss"] is None
    assert results["summary"][0]["validation_bits_per_byte"] is None
