"""What transformers runs for `custom_generate=FOLDER`, with the policy as text.

transformers copies this file and loads the copy, so it imports by full names only.
"""

from typing import Any

from transformers import PreTrainedModel

from gibbsian._errors import ArgumentError
from gibbsian.integrations.transformers.sampling import gibbsian_generate
from gibbsian.sampling.policies import policy_from_text

_OWN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""What a policy brings, with the values that say nothing."""


def generate(
    model: PreTrainedModel, inputs: Any = None, *, policy: str | None = None, **arguments: Any
) -> Any:
    """`model.generate` with a policy.

    Args:
        model: a decoder.
        inputs: the prompts, if `arguments` do not have them as `input_ids`.
        policy: NAME:OPTION=VALUE,...
        **arguments: of `generate` and of `gibbsian_generate`.

    Raises:
        ArgumentError: no policy, one that cannot be, or an argument that is the policy's.
    """
    if policy is None:
        raise ArgumentError("`policy` is missing. Give one, as in policy=quadrant.")
    for name, neutral in _OWN.items():
        if arguments.get(name, neutral) not in {neutral, None}:
            raise ArgumentError(
                f"`{name}` must be an option of the policy, as in policy=fixed:{name}=..., got it "
                "beside one. Where a comma ends an argument, write the arguments as JSON."
            )
    lm: Any = model  # nn.Module's own annotations know nothing of generate
    return lm.generate(
        inputs, custom_generate=gibbsian_generate, policy=policy_from_text(policy), **arguments
    )
