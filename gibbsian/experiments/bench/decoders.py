"""Ways to decode with AES: the exact path, and an index of the keys kept beside the cache."""

import inspect
import math
from dataclasses import replace

import torch
from torch import Tensor

from gibbsian.attention.aes.decoding import aes_decode
from gibbsian.attention.aes.key_index import KeyIndex
from gibbsian.experiments.bench import peers
from gibbsian.experiments.bench.case import Contender, Operation, Outputs, Reference, Tensors
from gibbsian.experiments.bench.references import attention_rows
from gibbsian.normalizers import entmax
from gibbsian.normalizers.schedules import Schedule
from gibbsian.statistics import gibbs_statistics

TOLERANCE: float = inspect.signature(aes_decode).parameters["tolerance"].default
"""Certified error of the entropy that the schedule is given with an index, nats: the default."""
_ZETA_ROUNDING = 1e-5
_QKV = ("query", "key", "value")


def exact_decoder(schedule: Schedule) -> Contender:
    """`aes_decode` on the cache alone."""

    def prepare(tensors: Tensors) -> Operation:
        q, k, v = (tensors[name] for name in _QKV)
        return peers.on(tensors, lambda: aes_decode(q, k, v, schedule=schedule), *_QKV)

    return Contender(name="AES", prepare=prepare, reference=attention_rows(schedule), bound=1e-4)


def indexed_decoder(schedule: Schedule) -> Contender:
    """`aes_decode` with a `KeyIndex`, which is built before: in use it grows with the cache."""

    def prepare(tensors: Tensors) -> Operation:
        q, k, v = (tensors[name] for name in _QKV)
        index = KeyIndex(k)

        def call() -> Tensor:
            return aes_decode(q, k, v, schedule=schedule, index=index)

        return peers.on(tensors, call, *_QKV)

    return Contender(
        name="AES, key index",
        prepare=prepare,
        reference=_at_its_sparsity(schedule),
        bound=1e-4,
        note=f"statistics to within a certified {TOLERANCE} nats; exact at the sparsity they give; "
        "the index is built before the clock starts",
    )


def _at_its_sparsity(schedule: Schedule) -> Reference:
    """Exact attention at the sparsity that was found, if that may be found.

    The statistics have to keep their tolerance, and the sparsity has to be the schedule's for them.
    """

    def reference(tensors: Tensors, rows: Tensor) -> Outputs:
        query, key, value = (tensors[name] for name in _QKV)
        narrow = [t.float() for t in (query, key, value)]
        _, found = aes_decode(
            *narrow,
            schedule=schedule,
            index=KeyIndex(narrow[1]),
            return_statistics=True,
        )
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        exact = gibbs_statistics(scores)
        kept = (found.entropy - exact.entropy).abs().max() <= TOLERANCE and (
            found.varentropy.sqrt() - exact.varentropy.sqrt()
        ).abs().max() <= TOLERANCE
        seen = replace(exact, entropy=found.entropy.double(), varentropy=found.varentropy.double())
        kept &= (found.zeta - schedule(seen)).abs().max() <= _ZETA_ROUNDING
        output = entmax(scores, found.zeta.double().unsqueeze(-1)) @ value
        output = output if kept else torch.full_like(output, torch.nan)
        return (output[..., rows, :],)

    return reference
