"""Random sources of tokens whose next-token distribution is known exactly, whatever came before.

No token is impossible, so that every distribution has a finite divergence from the truth.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray

TOKENS = 24
"""Size of the vocabulary."""
FLOOR = 0.01
"""Share of the uniform distribution in every distribution over tokens."""


class Source(ABC):
    """A random process; which one depends on the seed it is made with."""

    name: ClassVar[str]

    @abstractmethod
    def begin(self, count: int) -> Array:
        """The state of so many texts before their first token."""

    @abstractmethod
    def truth(self, state: Array) -> Array:
        """Distribution of the next token of each text, (count, `TOKENS`)."""

    @abstractmethod
    def follow(self, state: Array, token: Array) -> Array:
        """The state after the token of each text."""

    def texts(self, count: int, length: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Texts from their beginning, and the distribution that each token was drawn from.

        Returns:
            Tokens (count, length), and the truth (count, length, `TOKENS`).
        """
        state = self.begin(count)
        tokens, truths = [], []
        for _ in range(length):
            truths.append(self.truth(state))
            total = truths[-1].cumsum(axis=-1)
            uniform = rng.random((count, 1)) * total[:, -1:]
            tokens.append((total < uniform).sum(axis=-1))
            state = self.follow(state, tokens[-1])
        return np.stack(tokens, axis=1), np.stack(truths, axis=1)


class Markov(Source):
    """Two tokens decide on the next, by rows of a Dirichlet distribution."""

    name = "Markov chain"

    def __init__(self, seed: int, concentration: float = 0.15) -> None:
        rng = np.random.default_rng([1, seed])
        self.rows = _floored(rng.dirichlet([concentration] * TOKENS, (TOKENS, TOKENS)))

    def begin(self, count: int) -> Array:
        """Two tokens of number 0."""
        return np.zeros((count, 2), dtype=np.int64)

    def truth(self, state: Array) -> Array:
        """The row of the last two tokens."""
        rows: Array = self.rows[state[:, 0], state[:, 1]]
        return rows

    def follow(self, state: Array, token: Array) -> Array:
        """The last two tokens."""
        return np.stack([state[:, 1], token], axis=1)


class HiddenMarkov(Source):
    """Hidden states that emit tokens; the state is what the tokens tell of them, exactly."""

    name = "hidden Markov model"
    states = 12

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([2, seed])
        self.moves = rng.dirichlet([0.15] * self.states, self.states)
        self.emits = _floored(rng.dirichlet([0.1] * TOKENS, self.states))

    def begin(self, count: int) -> Array:
        """Every hidden state alike."""
        return np.full((count, self.states), 1 / self.states)

    def truth(self, state: Array) -> Array:
        """Mean over hidden states."""
        return np.asarray(state @ self.emits)

    def follow(self, state: Array, token: Array) -> Array:
        """Bayes' rule, then a move."""
        seen = state * self.emits[:, token].T
        return np.asarray((seen / seen.sum(axis=-1, keepdims=True)) @ self.moves)


class Grammar(Source):
    """A context-free grammar whose rules begin with different tokens, and typing errors.

    So tokens tell which rule was used, and a stack of symbols is all there is to know. Tokens that
    no rule allows are typing errors and leave the stack as it is.
    """

    name = "grammar"
    symbols = 8
    rules = 5
    error = FLOOR

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([3, seed])
        self.probs = np.zeros((self.symbols, TOKENS))
        self.follows = np.full((self.symbols, TOKENS, 2), -1)
        self.allowed = np.zeros((self.symbols, TOKENS), dtype=bool)
        for symbol in range(self.symbols):
            chosen = rng.choice(TOKENS, self.rules, replace=False)
            weights = rng.dirichlet([0.6] * self.rules)
            self.probs[symbol] = self.error / (TOKENS - self.rules)
            self.allowed[symbol, chosen] = True
            self.probs[symbol, chosen] = (1 - self.error) * weights
            # fewer symbols follow than stand for them, by the mean: texts end
            sizes = rng.permutation([0, 0, 1, 1, 2])
            for token, size in zip(chosen, sizes, strict=True):
                self.follows[symbol, token, :size] = rng.integers(self.symbols, size=size)

    def begin(self, count: int) -> Array:
        """A stack of the first symbol, with its height in front."""
        stack = np.zeros((count, 2), dtype=np.int64)
        stack[:, 0] = 1
        return stack

    def truth(self, state: Array) -> Array:
        """The rules of the symbol on top."""
        rows: Array = self.probs[self._top(state)]
        return rows

    def follow(self, state: Array, token: Array) -> Array:
        """What the rule says takes the place of the symbol; after the last a text begins anew."""
        top = self._top(state)
        at = np.arange(len(state))
        grown = np.concatenate([state, np.zeros((len(state), 1), dtype=np.int64)], axis=1)
        used = self.allowed[top, token]
        grown[:, 0] -= used
        for place in (1, 0):
            symbol = self.follows[top, token, place]
            pushed = used & (symbol >= 0)
            grown[:, 0] += pushed
            grown[at[pushed], grown[pushed, 0]] = symbol[pushed]
        ended = grown[:, 0] == 0
        grown[ended, 0], grown[ended, 1] = 1, 0
        return grown[:, : int(grown[:, 0].max()) + 1]

    @staticmethod
    def _top(state: Array) -> Array:
        tops: Array = state[np.arange(len(state)), state[:, 0]]
        return tops


SOURCES: tuple[type[Markov | HiddenMarkov | Grammar], ...] = (Markov, HiddenMarkov, Grammar)


def _floored(rows: Array) -> Array:
    return np.asarray((1 - FLOOR) * rows + FLOOR / rows.shape[-1])
