"""What happened at each token, as records and as JSON lines.

A trace keeps tensors as they are: an accelerator is asked for numbers only when records are.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from gibbsian._errors import ArgumentError, DataError
from gibbsian._files import write_atomic
from gibbsian.sampling.decision import Action
from gibbsian.sampling.policies.base import Policy
from gibbsian.sampling.step import StepResult


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRecord:
    """One token of one row; nats everywhere."""

    row: int
    """Row of the batch."""
    step: int
    """Tokens of the row before this one, in the trace."""
    token: int
    """Its number."""
    text: str | None
    """What it reads as, where that was given."""
    entropy: float | None
    """S of the model's distribution; None where it was not finite."""
    varentropy: float | None
    """V of it."""
    temperature: float | None
    """T used; 0 = greedy."""
    zeta: float | None
    """Sparsity used."""
    kept: int
    """Tokens that could be drawn."""
    surprisal: float | None
    """Of the token under the model."""
    action: str
    """`Action` in lower case."""
    branch: str
    """Which of the policy's branches."""


class Trace:
    """The results of consecutive steps of one batch."""

    def __init__(self, policy: Policy) -> None:
        self._branches = policy.branches
        self._results: list[StepResult] = []

    def append(self, result: StepResult) -> None:
        """Keep a result; nothing is computed."""
        self._results.append(result)

    def __len__(self) -> int:
        return len(self._results)

    def records(self, texts: Sequence[Sequence[str]] | None = None) -> list[TokenRecord]:
        """All tokens, row after row.

        Args:
            texts: for each row, what each of its tokens reads as.

        Raises:
            ArgumentError: texts of another number of rows or tokens.
        """
        if not self._results:
            return []
        infos = [result.info for result in self._results]
        names = ("entropy", "varentropy", "temperature", "zeta", "surprisal")
        numbers = {n: torch.stack([getattr(i, n) for i in infos], 1).tolist() for n in names}
        counts = {
            n: torch.stack([getattr(i, n) for i in infos], 1).tolist()
            for n in ("kept", "action", "branch")
        }
        tokens = torch.stack([result.token for result in self._results], 1).tolist()
        _check_texts(texts, len(tokens), len(infos))
        return [
            TokenRecord(
                row=row,
                step=step,
                token=tokens[row][step],
                text=None if texts is None else texts[row][step],
                **{name: _finite(numbers[name][row][step]) for name in names},
                kept=counts["kept"][row][step],
                action=Action(counts["action"][row][step]).name.lower(),
                branch=self._branches[counts["branch"][row][step]],
            )
            for row in range(len(tokens))
            for step in range(len(infos))
        ]


def write_jsonl(records: Iterable[TokenRecord], path: str | Path) -> None:
    """One JSON object a line; the file is whole or not there."""
    write_atomic(Path(path), "".join(f"{json.dumps(asdict(record))}\n" for record in records))


def read_jsonl(path: str | Path) -> list[TokenRecord]:
    """Inverse of `write_jsonl`.

    Raises:
        DataError: a file that is missing or has other lines.
    """
    try:
        # not `splitlines`: texts may hold separators of lines that JSON does not escape
        with Path(path).open(encoding="utf-8") as file:
            lines = list(file)
    except OSError as error:
        raise DataError(
            f"`path` must be a file of token records, got {path}: {error.strerror}. "
            "`write_jsonl` writes one."
        ) from None
    except UnicodeDecodeError:
        raise DataError(
            f"`path` must be a file of token records, got {path}, which is not in UTF-8. "
            "`write_jsonl` writes one."
        ) from None
    return [_record(line, number, path) for number, line in enumerate(lines, 1)]


def _record(line: str, number: int, path: str | Path) -> TokenRecord:
    try:
        return TokenRecord(**json.loads(line))
    except (ValueError, TypeError):
        raise DataError(
            f"`path` must be a file of token records, got {path} with another line {number}. "
            "`write_jsonl` writes one."
        ) from None


def _check_texts(texts: Sequence[Sequence[str]] | None, rows: int, steps: int) -> None:
    if texts is not None and [len(row) for row in texts] != [steps] * rows:
        raise ArgumentError(
            f"`texts` must have {steps} tokens for each of the {rows} rows, got "
            f"{[len(row) for row in texts]}. Decode the tokens of the trace one by one."
        )


def _finite(number: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return number if math.isfinite(number) else None
