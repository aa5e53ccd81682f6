"""The claims of the sources, each settled by measurement."""

from gibbsian.experiments.claims.claim import Claim as Claim
from gibbsian.experiments.claims.claim import ClaimResult as ClaimResult
from gibbsian.experiments.claims.claim import Measured as Measured
from gibbsian.experiments.claims.intervals import Estimate as Estimate
from gibbsian.experiments.claims.registry import all_claims as all_claims
from gibbsian.experiments.claims.registry import select as select
from gibbsian.experiments.claims.run import ClaimsObserver as ClaimsObserver
from gibbsian.experiments.claims.run import run_claims as run_claims

__all__ = [
    "Claim",
    "ClaimResult",
    "ClaimsObserver",
    "Estimate",
    "Measured",
    "all_claims",
    "run_claims",
    "select",
]
