r"""A copy of the keys in 16 bits, with a certified bound of what the rounding changed.

$$k_j = \bar k + D (s_j c_j + r_j), \qquad
  |q \cdot k_j - q \cdot \bar k - s_j (D q) \cdot c_j| \le |D q| \, |r_j|,$$

$c_j$ integers of 16 bits, $s_j$ a scale for each key, D the channels' sizes. The mean key
$\bar k$ shifts all scores of a query alike; taking it and the channels' sizes out makes the bound
narrower, the more so the larger the part that the keys have in common. $|r_j|$ is computed, not
estimated, and what float32 rounds is added: the bound holds for every query and key.

Eight bits would do for the candidates, but leave the entropy too uncertain
(docs/experiments/pruning.md).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError

BLOCK = 64
"""Keys whose codes lie together, channel by channel: a kernel reads whole vectors of keys. Kernels
take them in blocks of `gibbsian.numerics.cpu.simd.KEY_BLOCK`, which is the same number."""
_LARGEST = 32767
_TINY = 1e-30
_LEAST_SIZE = 1e-2
"""Of a channel, in parts of the largest: a later key may move in one that was still so far. Its
square, in parts of the mean key's norm, is the least of them all."""
_ROUNDED = 1 + 1e-5
"""A norm of up to thousands of float32 numbers, rounded, times this is no smaller than the norm."""


class KeyIndex:
    """16-bit keys beside a cache of keys, appended to as it grows.

    Args:
        key: (batch, key_heads, keys, head_dim), at least one key; finite. Give a prompt's: the mean
            key and the sizes of the channels are taken from these keys. From fewer than `BLOCK`
            they are taken again as keys are appended, up to that number.
        capacity: room for so many keys at first.

    Raises:
        ArgumentError: no key, or not four dimensions.

    Notes:
        A key takes 2 head_dim + 8 bytes, half of what float32 takes, and a full index grows by a
        quarter; an index of fewer than `BLOCK` keys holds those themselves too. A key that is not
        finite, or many times larger than those the index was built on, costs time, never
        correctness: its bound is as wide as it must be.

        An index only grows: it cannot drop keys (a cache cut short, a sliding window) or reorder
        samples (beam search). Build another one then. It sees the number of keys, not their values:
        keys overwritten in the cache make it wrong without notice.
    """

    codes: Tensor
    """(batch, key_heads, blocks, head_dim, `BLOCK`) int16."""
    scales: Float[Tensor, "batch key_heads capacity"]
    """One a key."""
    errors: Float[Tensor, "batch key_heads capacity"]
    """Norm of what rounding took from a key, over the channels' sizes; rounded up."""
    centre: Float[Tensor, "batch key_heads head_dim"]
    """The mean key."""
    channels: Float[Tensor, "batch key_heads head_dim"]
    """The channels' sizes, > 0."""
    largest: Float[Tensor, "batch key_heads"]
    """Largest norm of a key."""

    def __init__(self, key: Tensor, *, capacity: int | None = None) -> None:
        if key.dim() != 4 or key.shape[2] == 0:
            raise ArgumentError(
                "`key` must have shape (batch, key_heads, keys, head_dim) with at least one key, "
                f"got {tuple(key.shape)}. Build the index once the cache holds a key."
            )
        batch, heads, count, dim = key.shape
        # until there are enough of them, the keys themselves
        self._first: Tensor | None = key.detach()[:, :, :0].float()
        self._fitted = 0
        self.centre = self._first.new_zeros(batch, heads, dim)
        self.channels = torch.ones_like(self.centre)
        self.largest = self.centre.new_zeros(batch, heads)
        self.codes = self.centre.new_zeros(batch, heads, 0, dim, BLOCK, dtype=torch.int16)
        self.scales = self.centre.new_zeros(batch, heads, 0)
        self.errors = self.centre.new_zeros(batch, heads, 0)
        self._length = 0
        self._grow(max(count, capacity or 0))
        self.append(key)

    def __len__(self) -> int:
        """Number of keys."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Memory in bytes, room for growth included."""
        tensors = (self.codes, self.scales, self.errors, self.centre, self.channels, self.largest)
        held = 0 if self._first is None else self._first.nbytes
        return held + sum(tensor.nbytes for tensor in tensors)

    def append(self, key: Float[Tensor, "batch key_heads keys head_dim"]) -> None:
        """Add the keys that the cache has grown by.

        Raises:
            ArgumentError: another number of samples, heads or channels.
        """
        batch, heads, _, dim, _ = self.codes.shape
        if key.dim() != 4 or key.shape[:2] != (batch, heads) or key.shape[3] != dim:
            raise ArgumentError(
                f"`key` must have shape ({batch}, {heads}, keys, {dim}) like the keys before it, "
                f"got {tuple(key.shape)}. An index serves one cache."
            )
        first, last = self._length, self._length + key.shape[2]
        if last > self.scales.shape[2]:
            self._grow(max(last, self.scales.shape[2] * 5 // 4))
        key = key.detach().float()
        if self._first is not None:
            key = torch.cat([self._first, key], dim=2) if first else key
            self._first = key.clone() if last < BLOCK else None
            if last >= min(BLOCK, 2 * self._fitted):
                self._fit(key)
                self._fitted = last
            first = 0
        self._encode(key, first)
        self._length = last

    def _fit(self, key: Tensor) -> None:
        finite = key.nan_to_num(0.0, 0.0, 0.0)
        self.centre = finite.mean(dim=2)
        sizes = (finite - self.centre.unsqueeze(2)).abs().amax(dim=2)
        largest = sizes.amax(dim=2, keepdim=True)
        # keys all alike, up to rounding, say nothing of how others will differ
        norm = torch.linalg.vector_norm(self.centre, dim=2, keepdim=True)
        least = torch.maximum(_LEAST_SIZE * largest, _LEAST_SIZE**2 * norm)
        self.channels = torch.maximum(sizes, least).clamp_min(_TINY)

    def _encode(self, key: Tensor, first: int) -> None:
        """Codes, scales and bounds of keys from number `first` on."""
        last = first + key.shape[2]
        inner = (key - self.centre.unsqueeze(2)) / self.channels.unsqueeze(2)
        scale = inner.abs().amax(dim=3).clamp_min(_TINY) / _LARGEST
        rounded = (inner / scale.unsqueeze(3)).round().clamp(-_LARGEST, _LARGEST).nan_to_num(0.0)
        rest = torch.linalg.vector_norm(inner - rounded * scale.unsqueeze(3), dim=3)
        # a key that is not finite is always read
        usable = rest.isfinite()
        self.scales[:, :, first:last] = torch.where(usable, scale, 0.0)
        self.errors[:, :, first:last] = torch.where(usable, rest * _ROUNDED, torch.inf)
        self._write(rounded.to(torch.int16), first)
        norms = torch.linalg.vector_norm(key, dim=3)
        if norms.shape[2]:
            norms = torch.where(norms.isfinite(), norms, 0.0)
            self.largest = torch.maximum(self.largest, norms.amax(dim=2))

    def approximate(
        self, query: Float[Tensor, "batch key_heads rows head_dim"]
    ) -> tuple[
        Float[Tensor, "batch key_heads rows keys"], Float[Tensor, "batch key_heads rows keys"]
    ]:
        """Approximate scores of scaled queries, and certified bounds of their errors."""
        count = self._length
        codes = self.codes.transpose(3, 4).flatten(2, 3)[:, :, :count].float()
        inner = query * self.channels.unsqueeze(2)
        scores = (inner @ codes.transpose(2, 3)) * self.scales[:, :, None, :count]
        scores = scores + query @ self.centre.unsqueeze(3)
        norm, room = self.reach(query)
        # an infinite error stays so for a query of norm 0, whose score may still be NaN
        errors = self.errors[:, :, None, :count]
        error = torch.where(errors.isfinite(), norm.unsqueeze(3) * errors, errors)
        return scores, error + room.unsqueeze(3)

    def reach(
        self, query: Float[Tensor, "batch key_heads rows head_dim"]
    ) -> tuple[Float[Tensor, "batch key_heads rows"], Float[Tensor, "batch key_heads rows"]]:
        """What the errors of each row are multiplied by, and what float32 arithmetic adds."""
        norm = torch.linalg.vector_norm(query * self.channels.unsqueeze(2), dim=3) * _ROUNDED
        size = torch.linalg.vector_norm(query, dim=3)
        # two sums of head_dim products, half an eps for each term, and what `append` rounds
        unit = (query.shape[3] + 8) * torch.finfo(torch.float32).eps
        offset = torch.linalg.vector_norm(self.centre, dim=2)
        return norm, unit * size * (self.largest + offset).unsqueeze(2)

    def _write(self, codes: Tensor, first: int) -> None:
        """Codes (batch, key_heads, keys, head_dim) from key number `first` on."""
        blocks = self.codes.transpose(3, 4)
        done, count = 0, codes.shape[2]
        while done < count:
            block, offset = divmod(first + done, BLOCK)
            whole = 0 if offset else (count - done) // BLOCK
            if whole:
                part = codes[:, :, done : done + whole * BLOCK].unflatten(2, (whole, BLOCK))
                blocks[:, :, block : block + whole] = part
                done += whole * BLOCK
            else:
                size = min(BLOCK - offset, count - done)
                blocks[:, :, block, offset : offset + size] = codes[:, :, done : done + size]
                done += size

    def _grow(self, capacity: int) -> None:
        blocks = -(-capacity // BLOCK)
        batch, heads, old, dim, _ = self.codes.shape
        more = blocks - old
        codes = self.codes.new_zeros(batch, heads, more, dim, BLOCK)
        room = self.scales.new_zeros(batch, heads, more * BLOCK)
        self.codes = torch.cat([self.codes, codes], dim=2)
        self.scales = torch.cat([self.scales, room], dim=2)
        self.errors = torch.cat([self.errors, room], dim=2)
