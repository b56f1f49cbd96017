"""The app's own metrics: what each process counted for itself, merged into what the app counts.

An app that uses prometheus_client counts in each process. With ``PROMETHEUS_MULTIPROC_DIR`` in the environment each has
its numbers in mapped files, a file for each kind: they outlive a SIGKILL. Here they are merged, and those of processes
that are gone are added into one file of each kind, under the pid 0, so that recycling leaves nothing behind. A gauge of
a process that is gone is dropped, unless its mode says that it counts on (``sum``, ``min``, ``max``, ``mostrecent``).

Control may be killed at any moment. So that nothing is counted twice, or lost, a file that is being added is renamed
first; which of the steps was the last can be told from the names (:func:`_mend`).

Source: prometheus_client, multiprocess mode.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from hybrid.shared.metrics_folder import OLD_VARIABLE, VARIABLE, is_of

_merge: Any = MultiProcessCollector.merge  # these two have no types
_Values: Any = MmapedDict

TIDY_EVERY_S = 10.0
ADDED = ("counter", "histogram", "summary", "gauge_sum")
"""Kinds whose values are added up."""
KEPT = (*ADDED, "gauge_min", "gauge_max", "gauge_mostrecent")
"""Kinds that count on when their process is gone."""
GONE = 0
"""The pid under which those are kept."""
_LEAVING = ".leaving"
_COMING = ".coming"


class AppMetrics:
    """The folder, as control sees it.

    Runs in: control, in threads, one at a time. Closes: nothing; the parent removes the folder.
    Args: is_ours: the folder is to be kept tidy; else it is the user's, and only read.
    """

    def __init__(self, folder: Path, *, is_ours: bool) -> None:
        self._folder = folder
        self._is_ours = is_ours
        self._turn = threading.Lock()
        if is_ours:
            _mend(folder)

    @classmethod
    def from_environment(cls, parent_pid: int) -> AppMetrics | None:
        """Return the metrics of the app whose processes have our environment; None: no folder is named."""
        path = os.environ.get(VARIABLE) or os.environ.get(OLD_VARIABLE)
        return cls(Path(path), is_ours=is_of(path, parent_pid)) if path else None

    def families(self) -> Sequence[Metric]:
        """Return what all processes counted, those that are gone included. Raises: nothing."""
        with self._turn:
            files = [str(path) for path in self._files()]
            try:
                return list(_merge(files, accumulate=True))
            except Exception:  # noqa: BLE001  # whatever a process left in its file: the others are worth reading
                return list(_merge([each for each in files if _is_whole(each)], accumulate=True))

    def compact(self) -> None:
        """Add up what processes that are gone have left. Raises: OSError: the folder cannot be written to."""
        with self._turn:
            left: dict[str, list[Path]] = defaultdict(list)
            for path in self._files():
                kind, _, pid = path.stem.rpartition("_")
                if pid.isdigit() and int(pid) != GONE and not os.path.exists(f"/proc/{pid}"):
                    left[kind].append(path)
            for kind, paths in left.items():
                if kind in KEPT:
                    _add(self._folder / f"{kind}_{GONE}.db", kind, paths)
                else:
                    _unlink(paths)

    async def tidy(self) -> None:
        """Compact now and then, until cancelled. Does nothing in a folder that is not ours."""
        while self._is_ours:
            await asyncio.sleep(TIDY_EVERY_S)
            try:
                await asyncio.to_thread(self.compact)
            except OSError:
                pass  # full: what processes have left stays, and is merged from there

    def _files(self) -> list[Path]:
        try:
            return sorted(self._folder.glob("*.db"))
        except OSError:
            return []  # the server ends, and its folder is gone already


def _add(archive: Path, kind: str, paths: Sequence[Path]) -> None:
    """Add files of processes that are gone to the one that is kept."""
    sums: dict[str, tuple[float, float]] = {}
    for path in (archive, *paths):
        for key, value, timestamp in _entries(path):
            sums[key] = _merged(kind, sums[key], (value, timestamp)) if key in sums else (value, timestamp)
    coming = archive.with_suffix(_COMING)
    coming.unlink(missing_ok=True)
    made = _Values(str(coming))
    try:
        for key, (value, timestamp) in sums.items():
            made.write_value(key, value, timestamp)
    finally:
        made.close()
    leaving = [path.rename(path.with_suffix(_LEAVING)) for path in paths]
    coming.rename(archive)
    _unlink(leaving)


def _merged(kind: str, one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return what two processes said of the same: value and timestamp."""
    if kind in ADDED:
        return one[0] + other[0], 0.0
    if kind == "gauge_mostrecent":
        return max(one, other, key=lambda each: each[1])
    return (min if kind == "gauge_min" else max)(one[0], other[0]), 0.0


def _mend(folder: Path) -> None:
    """Finish or undo what another control process began.

    The new sums are there under another name before the first file is renamed, and have their own name before the first
    file is removed. So with that other name nothing is added yet; without it everything is.
    """
    for coming in folder.glob(f"*{_COMING}"):
        kind = coming.stem.rpartition("_")[0]
        for path in folder.glob(f"{kind}_*{_LEAVING}"):
            path.rename(path.with_suffix(".db"))
        coming.unlink(missing_ok=True)
    _unlink(folder.glob(f"*{_LEAVING}"))


def _entries(path: Path) -> list[tuple[str, float, float]]:
    """Return what stands in a file; nothing, if it is missing, or was cut off or written over."""
    try:
        return [(key, value, stamp) for key, value, stamp, _ in _Values.read_all_values_from_file(str(path))]
    except Exception:  # noqa: BLE001  # a process can leave anything in it
        return []


def _is_whole(file: str) -> bool:
    """Return whether a file can be merged by itself."""
    try:
        list(_merge([file], accumulate=True))
    except Exception:  # noqa: BLE001  # see above
        return False
    return True


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
