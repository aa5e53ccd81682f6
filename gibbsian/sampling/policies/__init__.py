"""Policies: what to do with the next token, decided from statistics alone."""

from gibbsian.sampling.policies.adaptive import Adaptive as Adaptive
from gibbsian.sampling.policies.aes import AESPolicy as AESPolicy
from gibbsian.sampling.policies.base import Policy as Policy
from gibbsian.sampling.policies.base import PolicyState as PolicyState
from gibbsian.sampling.policies.config import POLICIES as POLICIES
from gibbsian.sampling.policies.config import policy_from_config as policy_from_config
from gibbsian.sampling.policies.dynatemp import DynaTemp as DynaTemp
from gibbsian.sampling.policies.edt import EDT as EDT
from gibbsian.sampling.policies.fixed import Fixed as Fixed
from gibbsian.sampling.policies.free_energy import FreeEnergy as FreeEnergy
from gibbsian.sampling.policies.mirostat import Mirostat as Mirostat
from gibbsian.sampling.policies.quadrant import Quadrant as Quadrant
from gibbsian.sampling.policies.text import config_from_text as config_from_text
from gibbsian.sampling.policies.text import policy_from_text as policy_from_text

__all__ = [
    "EDT",
    "POLICIES",
    "AESPolicy",
    "Adaptive",
    "DynaTemp",
    "Fixed",
    "FreeEnergy",
    "Mirostat",
    "Policy",
    "PolicyState",
    "Quadrant",
    "config_from_text",
    "policy_from_config",
    "policy_from_text",
]
