"""All claims by id."""

from collections.abc import Sequence

from gibbsian._errors import ArgumentError
from gibbsian.experiments.claims.claim import Claim
from gibbsian.experiments.claims.correlators import CLAIM as E1
from gibbsian.experiments.claims.interpolation import CLAIM as A1
from gibbsian.experiments.claims.response import CLAIM as G1
from gibbsian.experiments.claims.signs import CLAIM as G2
from gibbsian.experiments.claims.tree import CLAIM as E3


def all_claims() -> dict[str, Claim]:
    """Every claim by its id, in the order in which they run."""
    return {claim.id: claim for claim in (A1, G1, G2, E1, E3)}


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
