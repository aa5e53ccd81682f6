"""The page of `gibbsian inspect`: what every head does, and what the model makes of the text."""

from gibbsian.reports.inspection.page import inspection_page as inspection_page

__all__ = ["inspection_page"]
