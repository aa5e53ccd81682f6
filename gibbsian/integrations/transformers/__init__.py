"""Hugging Face transformers with gibbsian attention, and with gibbsian sampling.

Importing this package makes the names `gibbsian_softmax`, `gibbsian_entmax`, `gibbsian_aes`,
`gibbsian_lln` and `gibbsian_lln_diag` known to transformers as values of `attn_implementation`.
"""

from gibbsian.integrations.transformers.call import AttentionCall as AttentionCall
from gibbsian.integrations.transformers.capture import capture as capture
from gibbsian.integrations.transformers.checkpoint import load as load
from gibbsian.integrations.transformers.conversion import attention_layers as attention_layers
from gibbsian.integrations.transformers.conversion import remove as remove
from gibbsian.integrations.transformers.conversion import use as use
from gibbsian.integrations.transformers.custom_generate import CUSTOM_GENERATE as CUSTOM_GENERATE
from gibbsian.integrations.transformers.forward import register
from gibbsian.integrations.transformers.monitor import EntropyMonitor as EntropyMonitor
from gibbsian.integrations.transformers.names import IMPLEMENTATIONS as IMPLEMENTATIONS
from gibbsian.integrations.transformers.observer import AttentionObserver as AttentionObserver
from gibbsian.integrations.transformers.observer import attention_observer as attention_observer
from gibbsian.integrations.transformers.sampling import NEUTRAL as NEUTRAL
from gibbsian.integrations.transformers.sampling import (
    EntropicLogitsProcessor as EntropicLogitsProcessor,
)
from gibbsian.integrations.transformers.sampling import EntropicOutput as EntropicOutput
from gibbsian.integrations.transformers.sampling import TokenTexts as TokenTexts
from gibbsian.integrations.transformers.sampling import gibbsian_generate as gibbsian_generate
from gibbsian.integrations.transformers.sampling import with_texts as with_texts

register()

__all__ = [
    "CUSTOM_GENERATE",
    "IMPLEMENTATIONS",
    "NEUTRAL",
    "AttentionCall",
    "AttentionObserver",
    "EntropicLogitsProcessor",
    "EntropicOutput",
    "EntropyMonitor",
    "TokenTexts",
    "attention_layers",
    "attention_observer",
    "capture",
    "gibbsian_generate",
    "load",
    "remove",
    "use",
    "with_texts",
]
