"""The entry point of the group `vllm.logits_processors`.

vLLM hands it to whichever of its two model runners runs, and each refuses a class that is not its
own: this one is both.
"""

from vllm.v1.sample.logits_processor import LogitsProcessor as FirstLogitsProcessor
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SecondLogitsProcessor

from gibbsian.integrations.vllm.processor import EntropicRows


class EntropicLogitsProcessor(EntropicRows, FirstLogitsProcessor, SecondLogitsProcessor):
    """Entropic sampling in vLLM, see `EntropicRows`."""
