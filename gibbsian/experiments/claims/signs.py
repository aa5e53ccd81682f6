r"""The signs in $S = \beta(U - F)$ and $J = \beta(E_y - F)$."""

import torch
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.heads import language_model, missing_weights, text_tokens
from gibbsian.experiments.claims.intervals import largest_of, mean_of
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.statistics import gibbs_statistics

ROUNDING = 1e-9
"""Relative; an identity in float64."""
BETAS = (0.5, 1.0, 2.0)


def _errors(scores: Tensor, target: Tensor, beta: float) -> dict[str, Tensor]:
    """Differences of both forms of S and of J from their definitions, in nats, a row each."""
    log_p = (beta * scores).log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    loss = -log_p.gather(-1, target[:, None])[:, 0]
    found = gibbs_statistics(scores, temperature=1 / beta)
    free, internal = found.free_energy, found.internal_energy
    energy = -scores.gather(-1, target[:, None])[:, 0]
    return {
        "S, as noted": internal / beta + free - entropy,
        "S, corrected": beta * (internal - free) - entropy,
        "J, as noted": beta * energy + free - loss,
        "J, corrected": beta * (energy - free) - loss,
    }


def measure(size: Size, seed: int) -> Measured:
    """Random rows, and next-token scores of SmolLM2 where it is installed."""
    rows, states = (200, 1000) if size == "quick" else (2000, 5000)
    worst: dict[str, list[float]] = {}
    typical: dict[str, list[float]] = {}
    sources: list[tuple[Tensor, Tensor]] = []
    for i in range(5):
        generator = torch.Generator().manual_seed(seed + i)
        scores = 2 * torch.randn(rows, states, generator=generator, dtype=torch.float64)
        sources.append((scores, torch.randint(states, (rows,), generator=generator)))
    missing = missing_weights("SmolLM2-135M")
    if not missing:
        for window in range(3):
            tokens = text_tokens("SmolLM2-135M", 64 if size == "quick" else 128, window)
            with torch.no_grad():
                logits = language_model()(tokens).logits[0, :-1].double()
            sources.append((logits, tokens[0, 1:]))
    for scores, target in sources:
        found = [_errors(scores, target, beta) for beta in BETAS]
        for name in found[0]:
            both = torch.cat([errors[name] for errors in found]).abs()
            worst.setdefault(name, []).append(both.max().item())
            typical.setdefault(name, []).append(both.mean().item())
    numbers = {f"largest error of {name}, nats": largest_of(v) for name, v in worst.items()}
    numbers |= {f"mean error of {name}, nats": mean_of(v) for name, v in typical.items()}
    scores, target = sources[-1]
    shown = _errors(scores[:150], target[:150], 1.0)
    definition = -scores[:150].log_softmax(-1).gather(-1, target[:150, None])[:, 0]
    points = tuple(
        Series(
            name=name.removeprefix("J, "),
            x=floats(definition),
            y=floats(definition + shown[name]),
            style="points",
        )
        for name in ("J, as noted", "J, corrected")
    )
    picture = Picture(
        name="loss",
        caption="The loss of each next token by its two forms, against its definition, beta = 1.",
        panels=(
            Panel(
                title="cross entropy J",
                x_label="-log p of the token, nats",
                y_label="by the formula, nats",
                series=points,
            ),
        ),
    )
    return Measured(
        numbers=numbers,
        scale=f"5 seeds of {rows} random rows of {states} states"
        + ("" if missing else "; SmolLM2-135M's next-token scores on three stretches of Austen")
        + "; beta = 0.5, 1, 2; float64",
        pictures=(picture,),
        missing=missing,
    )


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    noted = max(numbers[f"largest error of {x}, as noted, nats"].value for x in "SJ")
    right = max(numbers[f"largest error of {x}, corrected, nats"].value for x in "SJ")
    if noted < ROUNDING:
        return "holds", f"The noted forms are exact to {noted:.1e} nats."
    if right < ROUNDING:
        return "holds with a correction", (
            f"The noted forms miss the definitions by up to {noted:.3g} nats; "
            f"S = beta (U - F) and J = beta (E_y - F) are exact to {right:.1e}."
        )
    return "does not hold", f"Neither form is exact: {noted:.3g} and {right:.3g} nats off."


RULE = (
    "Holds if the noted forms equal the definitions S = -sum p log p and J = -log p_y within 1e-9 "
    "nats on every row and at every beta. Holds with a correction if they do not, but "
    "S = beta (U - F) and J = beta (E_y - F) do. Otherwise it does not hold."
)

CLAIM = Claim(
    id="G2",
    statement="S = beta^-1 <E> + F and J = beta E + F",
    source="Entropic LLMs note; EBM101",
    how="Both forms of both identities against the definitions, row by row.",
    rule=RULE,
    paper="Stated as identities.",
    measure=measure,
    judge=judge,
)
