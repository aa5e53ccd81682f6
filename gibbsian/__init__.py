"""Entropy-driven attention and sampling: one Gibbs distribution behind both."""

__version__ = "0.1.0"
