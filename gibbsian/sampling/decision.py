"""What a policy says, and a filter does: the one thing that passes between them."""

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.sampling.filters import (
    EntmaxFilter,
    Epsilon,
    Eta,
    Filter,
    MinP,
    PLess,
    RowParameter,
    TargetEntropy,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    Typical,
)
from gibbsian.sampling.filters.base import column, in_rows


class Action(IntEnum):
    """What is to happen with a row, beyond the numbers of its decision.

    Each has a meaning for a loop that knows nothing of it: the token drawn by the decision.
    """

    DRAW = 0
    """Draw a token."""
    GREEDY = 1
    """Take the most probable one (the temperature is 0)."""
    INSERT = 2
    """Append `Decision.insert_token` instead of a drawn one."""
    BRANCH = 3
    """A fork: follow several continuations and keep the best."""
    RESAMPLE = 4
    """Lost: draw again, hot, from a smaller pool."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decision:
    """Parameters of one step, each a number for all rows or a tensor (batch,); None = not used.

    Nothing here was computed from logits but through their statistics, and `apply` looks at nothing
    but logits and this. The filters act in the order of Hugging Face transformers.
    """

    temperature: RowParameter = 1.0
    """T >= 0; 0 is greedy."""
    target_entropy: RowParameter | None = None
    r"""Entropy $S^*$ in nats that sets the temperature, S(T) = S*; then `temperature` is unused."""
    coldest: float = 0.05
    """Smallest temperature for `target_entropy`."""
    hottest: float = 20.0
    """Largest."""
    top_n_sigma: RowParameter | None = None
    """Standard deviations below the largest score."""
    top_h: RowParameter | None = None
    """Share of the entropy."""
    top_k: int | Tensor | None = None
    """Number of tokens."""
    top_k_bound: int | None = None
    """Largest number in a tensor `top_k`: saves a sort."""
    top_p: RowParameter | None = None
    """Probability of the pool."""
    min_p: RowParameter | None = None
    """Probability relative to the largest."""
    typical: RowParameter | None = None
    """Probability of the typical pool."""
    epsilon: RowParameter | None = None
    """Smallest probability."""
    eta: RowParameter | None = None
    """Smallest probability, less where the entropy is high."""
    p_less: bool = False
    """Whether to cut below the mean probability."""
    zeta: RowParameter | None = None
    """Sparsity of the entmax that ends the chain."""
    candidates: int = 1
    """Tokens drawn for each row, of which the best by `score` is taken."""
    confidence: RowParameter = 1.0
    r"""Weight of $\log p$ in a candidate's score."""
    typicality: RowParameter = 0.0
    r"""Weight of $-|{-\log p} - S|$ in it."""
    expected_surprisal: Tensor | None = None
    """S of each row, where candidates are scored."""
    action: Integer[Tensor, "batch"] | None = None
    """`Action` of each row; None = all are drawn."""
    branch: Integer[Tensor, "batch"] | None = None
    """Which of the policy's `branches` each row is in."""
    insert_token: int | None = None
    """The token of `Action.INSERT`."""

    def cuts(self) -> tuple[Filter, ...]:
        """The filters in order, the temperature not among them."""
        given: list[tuple[RowParameter | None, type[Filter], str]] = [
            (self.top_n_sigma, TopNSigma, "n"),
            (self.top_h, TopH, "h"),
        ]
        cuts = [cls(**{name: value}) for value, cls, name in given if value is not None]
        if self.top_k is not None:
            cuts.append(TopK(k=self.top_k, bound=self.top_k_bound))
        given = [
            (self.top_p, TopP, "p"),
            (self.min_p, MinP, "min_p"),
            (self.typical, Typical, "mass"),
            (self.epsilon, Epsilon, "epsilon"),
            (self.eta, Eta, "epsilon"),
        ]
        cuts += [cls(**{name: value}) for value, cls, name in given if value is not None]
        if self.p_less:
            cuts.append(PLess())
        if self.zeta is not None:
            cuts.append(EntmaxFilter(zeta=self.zeta))
        return tuple(cuts)

    def temper(
        self, logits: Float[Tensor, "batch states"]
    ) -> tuple[Float[Tensor, "batch states"], Float[Tensor, "batch"]]:
        """Logits divided by the temperature, and that temperature."""
        if self.target_entropy is not None:
            solver = TargetEntropy(
                entropy=self.target_entropy, coldest=self.coldest, hottest=self.hottest
            )
            temperature = solver.temperature(logits)
            return logits / temperature.unsqueeze(-1), temperature
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        temperature = per_row("temperature", self.temperature, wide)
        if not isinstance(self.temperature, Tensor) and self.temperature == 1.0:
            return wide, temperature
        return Temperature(temperature=self.temperature)(wide), temperature

    def cut(self, tempered: Float[Tensor, "batch states"]) -> Float[Tensor, "batch states"]:
        """What the filters leave of tempered logits."""
        for step in self.cuts():
            tempered = step(tempered)
        return tempered

    @torch.no_grad()
    def apply(self, logits: Float[Tensor, "batch states"]) -> Float[Tensor, "batch states"]:
        """Logits of the tokens that may be drawn, in float32 or wider; the others are -inf.

        A row whose action is to insert a token has that one left, unless it was absent.
        """
        return self.insert(logits, self.cut(self.temper(logits)[0]))

    def insert(
        self, logits: Float[Tensor, "batch states"], filtered: Float[Tensor, "batch states"]
    ) -> Float[Tensor, "batch states"]:
        """`filtered` with the token of `Action.INSERT` alone where `logits` allow it."""
        if self.action is None or self.insert_token is None:
            return filtered
        states = logits.shape[-1]
        if not 0 <= self.insert_token < states:
            raise ArgumentError(
                f"`insert_token` must be a token of the vocabulary, 0 to {states - 1}, got "
                f"{self.insert_token}. Look it up in the model's own tokenizer."
            )
        score = logits[:, self.insert_token].to(filtered.dtype)
        inserting = (self.action == Action.INSERT) & (score > -torch.inf)
        emptied = filtered + torch.where(inserting, -torch.inf, 0.0).unsqueeze(-1).to(filtered)
        own = emptied[:, self.insert_token]
        emptied[:, self.insert_token] = torch.where(inserting, score, own)
        return emptied

    def score(self, log_probs: Float[Tensor, "batch draws"]) -> Float[Tensor, "batch draws"]:
        r"""How good each candidate is, from its log-probability under the model.

        $$a \log p - b\, |{-\log p} - S|$$
        """
        confidence = in_rows(column("confidence", self.confidence, log_probs), log_probs)
        score = confidence * log_probs
        if self.expected_surprisal is None:
            return score
        typicality = in_rows(column("typicality", self.typicality, log_probs), log_probs)
        expected = self.expected_surprisal.to(log_probs).unsqueeze(-1)
        return score - typicality * (-log_probs - expected).abs()

    def rows(self, index: Integer[Tensor, "chosen"]) -> "Decision":
        """The decision for some of the rows."""
        chosen: dict[str, Any] = {
            field.name: value[index] if isinstance(value, Tensor) and value.dim() else value
            for field in dataclasses.fields(self)
            for value in (getattr(self, field.name),)
        }
        return Decision(**chosen)


def per_row(name: str, value: RowParameter | None, rows: Tensor) -> Tensor:
    """A parameter as a tensor (batch,); None = 0."""
    given = 0.0 if value is None else column(name, value, rows)
    if isinstance(given, Tensor):
        return given.to(rows.dtype).reshape(-1).expand(rows.shape[0])
    return rows.new_full((rows.shape[0],), given)
