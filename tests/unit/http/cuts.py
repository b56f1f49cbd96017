"""Bytes cut into pieces: the strategy and the knife of every test that cuts."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import strategies as st

CUTS = st.binary(max_size=8).map(lambda gaps: list(accumulate(gaps)))
"""Places to cut at, in the order of the bytes; :func:`pieces` folds them into its data.

Drawn as bytes at once: a list of integers takes several times as long to draw.
"""


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return ``data`` in pieces, none of them empty, cut at ``cuts`` modulo its length."""
    if not data:
        return []
    ends = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(ends)]


def single(data: bytes) -> list[int]:
    """Return the cuts that leave one byte in each piece."""
    return list(range(len(data)))
