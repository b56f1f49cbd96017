"""Bytes cut into pieces, and bytes changed: the strategies and the knife of every test that does so.

What is drawn is bytes, whole: a list of numbers takes several times as long to draw.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import strategies as st

CUTS = st.binary(max_size=8).map(lambda gaps: list(accumulate(gaps)))
"""Places to cut at, in the order of the bytes; :func:`pieces` folds them into its data."""


CHANGES = st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=3)
"""Places in some bytes, and what to put there; :func:`changed` does it."""


def changed(data: bytes, changes: list[bytes], others: list[bytes]) -> bytes:
    """Return ``data`` after replacing, for each change, up to three bytes somewhere by one of ``others``, or none."""
    for high, low, length, kind in changes:
        at = (256 * high + low) % (len(data) + 1)
        data = data[:at] + (others[kind % len(others)] if kind < 240 else b"") + data[at + length % 4 :]
    return data


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return ``data`` in pieces, none of them empty, cut at ``cuts`` modulo its length."""
    if not data:
        return []
    ends = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(ends)]


def single(data: bytes) -> list[int]:
    """Return the cuts that leave one byte in each piece."""
    return list(range(len(data)))
