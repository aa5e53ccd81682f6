"""Policies of `gibbsian.sampling` in llama.cpp, through llama-cpp-python."""

from gibbsian.integrations.llama_cpp.processor import NEUTRAL as NEUTRAL
from gibbsian.integrations.llama_cpp.processor import (
    EntropicLogitsProcessor as EntropicLogitsProcessor,
)
from gibbsian.integrations.llama_cpp.processor import ProcessorList as ProcessorList

__all__ = ["NEUTRAL", "EntropicLogitsProcessor", "ProcessorList"]
