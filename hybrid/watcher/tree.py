"""What is below the watched directories: the directories to watch one by one, and the files that count.

One by one, and not each root with all that is in it: an excluded directory (a virtual environment, node_modules) then
costs no watch of the kernel's, of which a user has a limited number, and one that we may not read (a database's)
hinders nobody. The price: when a directory comes or goes, everything is looked at anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hybrid.watcher.filters import Filter

Stamp = tuple[int, int, int]
"""What differs when a file was written or replaced: inode, size, time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One look at the file system. ``files``: those that count, by path."""

    directories: frozenset[str]
    files: Mapping[str, Stamp]


def scan(filters: Sequence[Filter]) -> Tree:
    """Look at everything. A directory that is gone, or not ours to read, is passed over."""
    directories: set[str] = set()
    files: dict[str, Stamp] = {}
    for each in filters:
        visited: set[tuple[int, int]] = set()  # a link may lead back up
        waiting = [each.root]
        while waiting:
            folder = waiting.pop()
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in visited:
                    continue
                visited.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as listing:
                    entries = list(listing)
            except OSError:
                continue
            directories.add(folder)
            for entry in entries:
                if _is_directory(entry):
                    if each.enters(entry.path):
                        waiting.append(entry.path)
                elif each.counts(entry.path):
                    found = stamp(entry.path)
                    if found is not None:
                        files[entry.path] = found
    return Tree(frozenset(directories), files)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def stamp(path: str) -> Stamp | None:
    """Return the stamp of a file; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def differences(before: Mapping[str, Stamp], after: Mapping[str, Stamp]) -> set[str]:
    """Return the files that came, went or were changed."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def is_other_tree(paths: Iterable[str], watched: frozenset[str], filters: Sequence[Filter]) -> bool:
    """Say whether a directory among ``paths``, which have changed, came or went.

    One that is watched and has changed itself may be another one of the same name: its watch ended with the old one.
    """
    return any(
        path in watched or (os.path.isdir(path) and any(each.enters(path) for each in filters)) for path in paths
    )
