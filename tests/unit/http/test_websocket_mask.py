"""The mask: all ways to lay it over are one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.http import mask as module
from hybrid.http.mask import apply_mask, choose, xor
from tests.unit.http.ws_frames import masked


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=70), st.binary(min_size=4, max_size=4))
def test_numbers_do_what_the_rfc_says(data: bytes, mask: bytes) -> None:
    """§5.3, byte by byte; and the one that was chosen does the same."""
    assert xor(data, mask) == apply_mask(data, mask) == masked(data, mask)
    assert xor(xor(data, mask), mask) == data


@pytest.mark.parametrize("size", [16383, 16384, 16385, 32768, 50_000])
def test_long_data_is_cut_where_the_mask_begins(size: int) -> None:
    """Around the chunk, and beyond."""
    data = bytes(range(251)) * (size // 251 + 1)
    assert xor(data[:size], b"\1\2\3\4") == masked(data[:size], b"\1\2\3\4")


def test_without_the_c_extension_numbers_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """``websockets`` is no dependency of ours."""
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    assert choose() is xor


def test_the_package_around_the_c_extension_is_not_imported() -> None:
    """It imports 2 MB of modules; and whoever does want it finds it as it is."""
    pytest.importorskip("websockets.speedups")
    code = (
        "import sys; at_start = {*sys.modules}; from hybrid.http.mask import apply_mask, xor; "
        "assert apply_mask is not xor; "
        "assert not [name for name in {*sys.modules} - at_start if name.startswith('websockets')]; "
        "import websockets.speedups; print(websockets.speedups.apply_mask(bytes(4), b'mask').decode())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "mask\n", run.stderr


def test_with_the_c_extension_it_is_used() -> None:
    """It is what the tests run with, where it was built."""
    speedups = pytest.importorskip("websockets.speedups")
    assert choose() is speedups.apply_mask
    assert module.apply_mask is speedups.apply_mask
