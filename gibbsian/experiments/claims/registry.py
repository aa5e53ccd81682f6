"""All claims by id."""

from collections.abc import Sequence

from gibbsian._errors import ArgumentError
from gibbsian.experiments.claims import (
    answers,
    correlators,
    cost,
    free_energy,
    freezing,
    heating,
    interpolation,
    kernels,
    known_truth,
    lognormal,
    matching,
    redundancy,
    response,
    signs,
    spectra,
    tree,
)
from gibbsian.experiments.claims.claim import Claim

_CLAIMS = (
    interpolation.CLAIM,
    freezing.CLAIM,
    cost.CLAIM,
    response.CLAIM,
    signs.CLAIM,
    correlators.CLAIM,
    tree.CLAIM,
    lognormal.CLAIM,
    heating.ENTROPY,
    spectra.CLAIM,
    heating.VARIANCE,
    matching.LINEAR,
    kernels.CLAIM,
    matching.MATCHED,
    free_energy.CLAIM,
    redundancy.CLAIM,
    known_truth.CLAIM,
    answers.CLAIM,
)


def all_claims() -> dict[str, Claim]:
    """Every claim by its id, in the order in which they run."""
    return {claim.id: claim for claim in _CLAIMS}


def select(claims: dict[str, Claim], ids: Sequence[str]) -> list[Claim]:
    """The claims with these ids, in their own order; without ids all.

    Raises:
        ArgumentError: an unknown id.
    """
    wanted = {name.upper() for name in ids} if ids else set(claims)
    unknown = [name for name in ids if name.upper() not in claims]
    if unknown:
        raise ArgumentError(
            f"`claims` must be ids among {', '.join(claims)}, got {unknown[0]!r}. "
            "`gibbsian claims --list` says what they are."
        )
    return [claim for name, claim in claims.items() if name in wanted]
