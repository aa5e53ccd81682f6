"""Tables and pages made of results; they read plain JSON and know nothing of training."""

from gibbsian.reports.page import comparison_page as comparison_page
from gibbsian.reports.table import COLUMNS as COLUMNS
from gibbsian.reports.table import Column as Column
from gibbsian.reports.table import comparison_title as comparison_title
from gibbsian.reports.table import table_rows as table_rows

__all__ = ["COLUMNS", "Column", "comparison_page", "comparison_title", "table_rows"]
