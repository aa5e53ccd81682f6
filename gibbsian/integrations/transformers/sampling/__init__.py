"""Policies of `gibbsian.sampling` in transformers' `generate`."""

from gibbsian.integrations.transformers.sampling.generate import EntropicOutput as EntropicOutput
from gibbsian.integrations.transformers.sampling.generate import (
    gibbsian_generate as gibbsian_generate,
)
from gibbsian.integrations.transformers.sampling.processor import NEUTRAL as NEUTRAL
from gibbsian.integrations.transformers.sampling.processor import (
    EntropicLogitsProcessor as EntropicLogitsProcessor,
)
from gibbsian.integrations.transformers.sampling.texts import TokenTexts as TokenTexts
from gibbsian.integrations.transformers.sampling.texts import with_texts as with_texts

__all__ = [
    "NEUTRAL",
    "EntropicLogitsProcessor",
    "EntropicOutput",
    "TokenTexts",
    "gibbsian_generate",
    "with_texts",
]
