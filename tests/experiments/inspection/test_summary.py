"""What is gathered over many layers, heads and inputs."""

import torch

from gibbsian.experiments.inspection.measure import HEAD_NAMES, ROW_NAMES, LayerMeasures
from gibbsian.experiments.inspection.summary import MAX_POINTS, Summary


def test_one_point_a_head_is_a_row_in_the_middle() -> None:
    """The first of a causal head's rows sees two keys, and says nothing of the others."""
    rows = torch.arange(11.0)[None] / 100
    measures = LayerMeasures(
        visible_keys=torch.arange(1, 12)[None],
        rows=dict.fromkeys(ROW_NAMES, rows),
        heads=dict.fromkeys(HEAD_NAMES, torch.zeros(1)),
    )
    summary = Summary(layers=MAX_POINTS, inputs=1, keys=11)
    summary.add(7, measures)
    points = summary.support_points()
    assert (points["layer"], points["head"]) == ([7], [0])
    assert 0.05 <= points["zeta"][0] <= 0.06
