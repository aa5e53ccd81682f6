"""Policies by name, from JSON-able descriptions."""

from collections.abc import Mapping
from typing import Any

from gibbsian._errors import ArgumentError
from gibbsian.sampling.policies.adaptive import Adaptive
from gibbsian.sampling.policies.aes import AESPolicy
from gibbsian.sampling.policies.base import Policy
from gibbsian.sampling.policies.dynatemp import DynaTemp
from gibbsian.sampling.policies.edt import EDT
from gibbsian.sampling.policies.fixed import Fixed
from gibbsian.sampling.policies.free_energy import FreeEnergy
from gibbsian.sampling.policies.mirostat import Mirostat
from gibbsian.sampling.policies.quadrant import Quadrant

POLICIES: dict[str, type[Policy]] = {
    cls.name: cls
    for cls in (Fixed, EDT, DynaTemp, Mirostat, Quadrant, Adaptive, AESPolicy, FreeEnergy)
}
"""The policies that a description can name."""


def policy_from_config(config: Mapping[str, Any]) -> Policy:
    """Inverse of `Policy.to_config`; options left out take their defaults.

    Raises:
        ArgumentError: an unknown name or option, a missing option, a value out of range.
    """
    options = dict(config)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in POLICIES:
        known = ", ".join(repr(known) for known in sorted(POLICIES))
        raise ArgumentError(f"`name` of a policy must be one of {known}, got {name!r}.")
    return POLICIES[name].from_options(options)
