"""The smallest comparison that has everything: checkpoints, probes, two runs."""

from pathlib import Path
from typing import Any

from gibbsian.experiments import CompareConfig

TEXT = "".join(f"line {i}: the number {i * i} is the square of {i}.\n" for i in range(200))


def tiny_config(folder: Path, **changes: Any) -> CompareConfig:
    path = folder / "text.txt"
    path.write_text(TEXT)
    settings: dict[str, Any] = {
        "attentions": ("softmax", "entmax:zeta=0.5"),
        "seeds": (0,),
        "text": (str(path),),
        "layers": 1,
        "width": 16,
        "heads": 2,
        "context": 16,
        "steps": 6,
        "batch": 4,
        "probe_every": 4,
        "checkpoint_every": 2,
        "validation_windows": 6,
        "device": "cpu",
    }
    return CompareConfig(**(settings | changes))
