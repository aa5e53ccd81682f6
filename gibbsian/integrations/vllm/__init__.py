"""vLLM with gibbsian sampling: a plug-in that vLLM finds by itself once both are installed.

A request asks with `gibbsian_policy` and `gibbsian_seed` in `SamplingParams.extra_args`, or in
`vllm_xargs` of the OpenAI-compatible server.
"""

from gibbsian.integrations.vllm.parameters import POLICY_VARIABLE as POLICY_VARIABLE
from gibbsian.integrations.vllm.parameters import default_policy as default_policy
from gibbsian.integrations.vllm.processor import EntropicRows as EntropicRows

__all__ = ["POLICY_VARIABLE", "EntropicRows", "default_policy"]
