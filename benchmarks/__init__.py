"""Measurements: each writes the figures that the documentation quotes under results/."""
