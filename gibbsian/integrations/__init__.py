"""Bridges to other packages, each in a folder of its name and imported by nobody else."""
