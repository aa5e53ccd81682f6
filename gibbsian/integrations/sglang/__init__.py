"""Policies of `gibbsian.sampling` in SGLang."""

from gibbsian.integrations.sglang.processor import NEUTRAL as NEUTRAL
from gibbsian.integrations.sglang.processor import EntropicLogitProcessor as EntropicLogitProcessor

__all__ = ["NEUTRAL", "EntropicLogitProcessor"]
