"""Which policies decide alike, so that their rows can be computed together."""

import json

from gibbsian._errors import ArgumentError
from gibbsian.normalizers.schedules import (
    Gated,
    Schedule,
    schedule_from_config,
    schedule_to_config,
)
from gibbsian.sampling.policies import POLICIES, AESPolicy, Policy


def kind_of(policy: Policy) -> str | int:
    """Equal for policies that decide alike: the description where it says all, else the object's.

    A policy of one's own may hold what its description leaves out.
    """
    own = type(policy) not in POLICIES.values()
    if own or (isinstance(policy, AESPolicy) and not _is_described(policy.schedule)):
        return id(policy)
    return json.dumps(policy.to_config(), sort_keys=True)


def _is_described(schedule: Schedule) -> bool:
    """Whether its description builds an equal one: learned parameters are not in it."""
    if type(schedule) is Gated:
        return _is_described(schedule.schedule) and _is_described(schedule.constant)
    try:
        return bool(schedule_from_config(schedule_to_config(schedule)) == schedule)
    except ArgumentError:
        return False
