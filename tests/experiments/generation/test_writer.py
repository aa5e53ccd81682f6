"""Texts of tiny random models: tokens, thresholds, chats, ends."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gibbsian._errors import ArgumentError, DataError, UnsupportedModelError
from gibbsian.experiments.generation import GenerateConfig, Writer, quadrant
from gibbsian.experiments.generation.levels import thresholds_path
from gibbsian.sampling import Calibration, Thresholds
from gibbsian.sampling.policies import Quadrant
from tests.experiments.inspection import small_models as small


class Watcher:
    def __init__(self, interrupt_at=None):
        self.tokens = []
        self._interrupt_at = interrupt_at

    def on_token(self, token):
        self.tokens.append(token)
        if len(self.tokens) == self._interrupt_at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return small.llama(tmp_path_factory.mktemp("models") / "llama", eos_token_id=None)


def written(llama, watcher=None, **options):
    options = {"prompt": "It is a truth", "max_tokens": 12, "seed": 1} | options
    config = GenerateConfig(model=str(llama), **options)
    return Writer(config).write(watcher or Watcher())


def test_a_text_is_its_tokens(llama):
    watcher = Watcher()
    generation = written(llama, watcher, policy="fixed:temperature=0.8")
    json.dumps(generation, allow_nan=False)
    assert watcher.tokens == generation["tokens"]
    assert len(watcher.tokens) == 12
    tokens = [token["token"] for token in watcher.tokens]
    tokenizer = AutoTokenizer.from_pretrained(llama)
    assert generation["text"] == tokenizer.decode(tokens, skip_special_tokens=True)
    assert generation["stopped"] == "length"
    # the numbers are those of the model, read once more as a whole
    ids = torch.tensor([tokenizer("It is a truth").input_ids + tokens])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(llama)(ids).logits[0, -13:-1]
    log_probs = logits.log_softmax(dim=-1)
    for row, token in zip(log_probs, watcher.tokens, strict=True):
        entropy = float(-(row.exp() * row).sum())
        assert math.isclose(token["entropy"], entropy, rel_tol=1e-4)
        assert math.isclose(token["surprisal"], -float(row[token["token"]]), rel_tol=1e-3)
    assert generation == written(llama, policy="fixed:temperature=0.8") | {
        name: generation[name] for name in ("created", "seconds")
    }
    assert generation["text"] != written(llama, policy="fixed:temperature=0.8", seed=2)["text"]


def test_a_fresh_seed_is_told_and_repeats(llama):
    first = written(llama, seed=None)
    assert first["seed"] != written(llama, seed=None)["seed"]
    assert written(llama, seed=first["seed"])["text"] == first["text"]


def test_an_interrupted_text_is_what_was_written(llama):
    watcher = Watcher(interrupt_at=5)
    generation = written(llama, watcher)
    assert generation["stopped"] == "interrupted"
    assert len(generation["tokens"]) == 5
    whole = written(llama)["tokens"][:5]
    assert [t["token"] for t in generation["tokens"]] == [t["token"] for t in whole]


def test_quadrants_are_those_of_the_policy(llama):
    spec = "quadrant:entropy_low=4.2,entropy_high=4.5,varentropy_low=1.5,varentropy_high=2"
    tokens = written(llama, policy=spec, max_tokens=60)["tokens"]
    names = {name: name for name in Quadrant.branches} | {"adaptive": "between"}
    assert [t["quadrant"] for t in tokens] == [names[t["branch"]] for t in tokens]
    assert len({t["quadrant"] for t in tokens}) > 2


def test_edges_of_quadrants():
    levels = Thresholds(entropy_low=1.0, entropy_high=2.0, varentropy_low=1.0, varentropy_high=2.0)
    told = {(s, v): quadrant(s, v, levels) for s in (0.5, 1.0, 2.0) for v in (0.5, 1.0, 2.0)}
    assert told == {
        (0.5, 0.5): "flowing",
        (1.0, 0.5): "between",
        (2.0, 0.5): "treading",
        (0.5, 1.0): "between",
        (1.0, 1.0): "between",
        (2.0, 1.0): "between",
        (0.5, 2.0): "exploring",
        (1.0, 2.0): "exploring",
        (2.0, 2.0): "mist",
    }
    assert quadrant(None, 1.0, levels) is None


def test_calibration_stays_beside_the_model(tmp_path):
    folder = small.llama(tmp_path / "llama")
    text = small.text(tmp_path / "text.txt", count=20)
    writer = Writer(GenerateConfig(model=str(folder), calibrate=str(text)))
    assert writer.path == folder / "gibbsian-thresholds.json"
    saved = Calibration.load(writer.path)
    assert (saved.model, saved.text) == (str(folder), "text.txt")
    # a model that has read nothing knows no more in one place than in another, but for noise
    tokens = written(folder, policy="fixed", max_tokens=200)
    assert tokens["calibrated_on"] == "text.txt"
    assert tokens["thresholds"] == saved.thresholds.to_config()
    kinds = [t["quadrant"] for t in tokens["tokens"]]
    assert all(kinds.count(kind) < 190 for kind in set(kinds))
    other = tmp_path / "else.json"
    saved.save(other)
    assert written(folder, thresholds=str(other))["calibrated_on"] == "text.txt"


def test_where_thresholds_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hub = tmp_path / "gibbsian" / "thresholds" / "org--model.json"
    assert thresholds_path("org/model") == hub
    gguf = tmp_path / "model.Q4_1.gguf"
    assert thresholds_path(str(gguf)) == tmp_path / "model.Q4_1.thresholds.json"


def chatty(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}:"
    tokenizer.save_pretrained(folder)
    return folder


def test_chats(llama, tmp_path):
    folder = chatty(small.llama(tmp_path / "llama"))
    assert written(folder)["chat"]
    assert written(folder)["prompt_tokens"] == len("<It is a truth>:")
    plain = written(folder, chat=False)
    assert not plain["chat"]
    assert plain["prompt_tokens"] == len("It is a truth")
    assert not written(llama)["chat"]
    with pytest.raises(ArgumentError, match=r"`--chat` needs a chat template, and .* has none"):
        written(llama, chat=True)


def test_an_end(llama):
    tokens = [t["token"] for t in written(llama, policy="fixed:temperature=0")["tokens"]]
    writer = Writer(
        GenerateConfig(
            model=str(llama),
            prompt="It is a truth",
            max_tokens=12,
            policy="fixed:temperature=0",
        )
    )
    writer._model.generation_config.eos_token_id = tokens[4]
    generation = writer.write(Watcher())
    assert [t["token"] for t in generation["tokens"]] == tokens[: tokens.index(tokens[4]) + 1]
    assert generation["stopped"] == "end"


def test_inserted_tokens(llama):
    spec = "quadrant:entropy_low=0,entropy_high=0,varentropy_low=100,varentropy_high=100"
    generation = written(llama, policy=spec, insert="h")
    assert [t["action"] for t in generation["tokens"]] == ["insert", "draw"] * 6
    assert generation["text"][0] == "h"
    with pytest.raises(
        ArgumentError, match=r"`--insert` must be one token .* got 'hm', which is 2"
    ):
        written(llama, insert="hm")


def test_attention_changes_what_the_policy_does(llama):
    without, told = (
        written(llama, policy="adaptive", attention=wanted) for wanted in (False, True)
    )
    assert without["tokens"][0]["entropy"] == pytest.approx(told["tokens"][0]["entropy"], rel=1e-4)
    assert without["tokens"][0]["temperature"] != told["tokens"][0]["temperature"]


def test_the_model_ends_where_its_positions_do(llama):
    generation = written(llama, prompt="x" * (small.POSITIONS - 3), max_tokens=50)
    assert len(generation["tokens"]) == 3
    with pytest.raises(ArgumentError, match=rf"shorter than the {small.POSITIONS} tokens"):
        written(llama, prompt="x" * small.POSITIONS)


def test_models_and_files_that_are_refused(llama, tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("too short", encoding="utf-8")
    with pytest.raises(DataError, match=r"at least 101 tokens, got 9 in short\.txt"):
        written(llama, calibrate=str(text))
    with pytest.raises(DataError, match=r"must be a calibration file, got .*none\.json"):
        written(llama, thresholds=str(tmp_path / "none.json"))
    with pytest.raises(DataError, match="does not exist"):
        written(tmp_path / "no-model")
    with pytest.raises(UnsupportedModelError, match="must be a language model that writes"):
        written(small.bert(tmp_path / "bert"))
    with pytest.raises(UnsupportedModelError, match="must be a language model that writes"):
        written(small.t5(tmp_path / "t5"))
    levels = tmp_path / "bits.json"
    long = small.text(tmp_path / "text.txt", count=20)
    Writer(GenerateConfig(model=str(llama), calibrate=str(long), thresholds=str(levels)))
    content = json.loads(levels.read_text())
    content["thresholds"]["unit"] = "bits"
    levels.write_text(json.dumps(content))
    with pytest.raises(ArgumentError, match="`unit` of thresholds must be 'nats', got 'bits'"):
        written(llama, thresholds=str(levels))
