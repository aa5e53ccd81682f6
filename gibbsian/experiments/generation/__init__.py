"""Text from a language model with a policy, and what happened at every token."""

from gibbsian.experiments.generation.config import GenerateConfig as GenerateConfig
from gibbsian.experiments.generation.levels import QUADRANTS as QUADRANTS
from gibbsian.experiments.generation.levels import quadrant as quadrant
from gibbsian.experiments.generation.run import Observer as Observer
from gibbsian.experiments.generation.run import Writer as Writer

__all__ = ["QUADRANTS", "GenerateConfig", "Observer", "Writer", "quadrant"]
