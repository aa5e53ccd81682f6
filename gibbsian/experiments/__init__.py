"""Training and comparing transformers that differ in their attention only."""

from gibbsian.experiments.compare import compare as compare
from gibbsian.experiments.compare import stored_config as stored_config
from gibbsian.experiments.config import CompareConfig as CompareConfig
from gibbsian.experiments.config import demo_config as demo_config
from gibbsian.experiments.recorder import Observer as Observer

__all__ = ["CompareConfig", "Observer", "compare", "demo_config", "stored_config"]
