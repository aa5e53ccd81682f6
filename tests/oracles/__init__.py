"""The mathematics once more, in float64 NumPy or mpmath, importing nothing of gibbsian."""
