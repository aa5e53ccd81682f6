"""Statistics of rows of scores."""

from gibbsian.statistics.gibbs import GibbsStatistics as GibbsStatistics
from gibbsian.statistics.gibbs import gibbs_statistics as gibbs_statistics
from gibbsian.statistics.rows import row_statistics as row_statistics

__all__ = ["GibbsStatistics", "gibbs_statistics", "row_statistics"]
