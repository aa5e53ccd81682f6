"""What a policy says, and a filter does: the one thing that passes between them."""

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from gibbsian._dispatch import runs_on_cpu_kernels
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

_RARE = ("top_n_sigma", "top_h", "typical", "eta")
_LONGEST_LIST = 256
"""The largest k that the kernels take."""


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
            temperature = self.solver().temperature(logits)
            return logits / temperature.unsqueeze(-1), temperature
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        temperature = per_row("temperature", self.temperature, wide)
        if not isinstance(self.temperature, Tensor) and self.temperature == 1.0:
            return wide, temperature
        return Temperature(temperature=self.temperature)(wide), temperature

    def solver(self) -> TargetEntropy:
        """What finds the temperature of `target_entropy`."""
        entropy = 0.0 if self.target_entropy is None else self.target_entropy
        return TargetEntropy(entropy=entropy, coldest=self.coldest, hottest=self.hottest)

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
        found = self.obstacles(logits)
        if self.zeta is not None:
            found.append("the kernels give probabilities there")
        if not runs_on_cpu_kernels("auto", logits, obstacles=found):
            return self.left(logits)[0]
        # numba takes half a second to import: only where it is used
        from gibbsian.sampling.cpu.rows import filter_rows  # noqa: PLC0415

        rows = logits.detach().float().contiguous()
        filtered, doubtful = filter_rows(rows, self)
        if doubtful.any():
            index = torch.from_numpy(doubtful).nonzero()[:, 0]
            filtered[index] = self.rows(index).left(rows[index])[0]
        return filtered

    def left(
        self, logits: Float[Tensor, "batch states"]
    ) -> tuple[Float[Tensor, "batch states"], Float[Tensor, "batch"]]:
        """`apply` in plain torch, and the temperature."""
        tempered, temperature = self.temper(logits)
        return self.insert(logits, self.cut(tempered)), temperature

    def obstacles(self, logits: Float[Tensor, "batch states"]) -> list[str]:
        """Why the compiled kernels cannot follow this, each a clause."""
        found = [f"the decision has {name}" for name in _RARE if getattr(self, name) is not None]
        if self.p_less:
            found.append("the decision has p_less")
        states = logits.shape[-1]
        if isinstance(self.top_k, int) and _LONGEST_LIST < self.top_k < states:
            found.append(f"top_k is larger than {_LONGEST_LIST}")
        cut = not (self.top_k is None and self.top_p is None and self.min_p is None)
        fixed = self.target_entropy is None and not isinstance(self.temperature, Tensor)
        tempered = not (fixed and self.temperature == 1.0)
        if self.epsilon is not None and (cut or tempered or self.zeta is not None):
            found.append("the decision has more than epsilon")
        if self.zeta is not None and cut:
            found.append("the decision has a cut before zeta")
        for name in _FIELDS:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                if value.shape != logits.shape[:1]:
                    found.append(f"{name} does not have one number a row")
                if value.device.type != "cpu" or value.dtype == torch.bfloat16:
                    found.append(f"{name} is {value.dtype} on {value.device}")
        if logits.numel() == 0:
            found.append("there are no logits")
        return found

    def insert(
        self, logits: Float[Tensor, "batch states"], filtered: Float[Tensor, "batch states"]
    ) -> Float[Tensor, "batch states"]:
        """`filtered` with the token of `Action.INSERT` alone where `logits` allow it."""
        inserting = self.inserting(logits)
        if inserting is None:
            return filtered
        score = logits[:, self.insert_token].to(filtered.dtype)
        emptied = filtered + torch.where(inserting, -torch.inf, 0.0).unsqueeze(-1).to(filtered)
        own = emptied[:, self.insert_token]
        emptied[:, self.insert_token] = torch.where(inserting, score, own)
        return emptied

    def inserting(self, logits: Float[Tensor, "batch states"]) -> Bool[Tensor, "batch"] | None:
        """The rows that insert a token, whose `logits` allow it; None = no row may insert."""
        if self.action is None or self.insert_token is None:
            return None
        states = logits.shape[-1]
        if not 0 <= self.insert_token < states:
            raise ArgumentError(
                f"`insert_token` must be a token of the vocabulary, 0 to {states - 1}, got "
                f"{self.insert_token}. Look it up in the model's own tokenizer."
            )
        return (self.action == Action.INSERT) & (logits[:, self.insert_token] > -torch.inf)

    def taken_action(
        self, logits: Float[Tensor, "batch states"]
    ) -> Integer[Tensor, "batch"] | None:
        """`action`, but DRAW where `logits` forbid the token to insert."""
        inserting = self.inserting(logits)
        if self.action is None or inserting is None:
            return self.action
        forbidden = (self.action == Action.INSERT) & ~inserting
        return torch.where(forbidden, int(Action.DRAW), self.action)

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
            name: value[index] if isinstance(value, Tensor) and value.dim() else value
            for name in _FIELDS
            for value in (getattr(self, name),)
        }
        return Decision(**chosen)


_FIELDS = tuple(field.name for field in dataclasses.fields(Decision))


def per_row(name: str, value: RowParameter | None, rows: Tensor) -> Tensor:
    """A parameter as a tensor (batch,); None = 0."""
    given = 0.0 if value is None else column(name, value, rows)
    if isinstance(given, Tensor):
        return given.to(rows.dtype).reshape(-1).expand(rows.shape[0])
    return rows.new_full((rows.shape[0],), given)
