"""Look inside a pretrained transformer: what every row of its attention does on given inputs."""

from gibbsian.experiments.inspection.config import InspectConfig as InspectConfig
from gibbsian.experiments.inspection.folder import load_inspection as load_inspection
from gibbsian.experiments.inspection.folder import whole_folder as whole_folder
from gibbsian.experiments.inspection.run import Observer as Observer
from gibbsian.experiments.inspection.run import inspect_model as inspect_model

__all__ = ["InspectConfig", "Observer", "inspect_model", "load_inspection", "whole_folder"]
