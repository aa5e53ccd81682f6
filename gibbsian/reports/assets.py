"""Parts of a self-contained page."""

import base64
import hashlib
from importlib import resources


def asset(name: str) -> str:
    """A file of this package, by its path in it."""
    return (resources.files("gibbsian.reports") / name).read_text(encoding="utf-8")


def content_hash(content: str) -> str:
    """How a content security policy names an inline style or script."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
