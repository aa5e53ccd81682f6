"""`generate` with a policy for who can only pass it text: command lines, configuration files."""

from pathlib import Path

CUSTOM_GENERATE = str(Path(__file__).parent.parent)
"""A folder for `custom_generate=` where that cannot be a function, as in
`model.generate(**inputs, custom_generate=CUSTOM_GENERATE, trust_remote_code=True, policy="edt")`.
transformers runs what it finds in `custom_generate/generate.py` there."""

__all__ = ["CUSTOM_GENERATE"]
