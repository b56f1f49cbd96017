"""What is there to be watched, and what differs between two looks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid.watcher.filters import Filter
from hybrid.watcher.tree import differences, is_other_tree, scan, stamp


def write(path: Path, text: str = "") -> Path:
    """Write a file, in directories that need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_excluded_directories_cost_no_watch(tmp_path: Path) -> None:
    """Neither they nor what is in them."""
    for place in ("app.py", "pkg/a.py", "pkg/note.txt", "node_modules/a/b.py", ".venv/lib/c.py"):
        write(tmp_path / place)
    tree = scan([Filter(str(tmp_path))])
    assert tree.directories == {str(tmp_path), str(tmp_path / "pkg")}
    assert set(tree.files) == {str(tmp_path / "app.py"), str(tmp_path / "pkg/a.py")}


def test_links_are_followed_once(tmp_path: Path) -> None:
    """A linked package is watched; a link that leads back up, and a dangling one, end nowhere."""
    write(tmp_path / "shared/lib.py")
    project = tmp_path / "project"
    project.mkdir()
    (project / "lib").symlink_to(tmp_path / "shared")
    (project / "loop").symlink_to(project)
    (project / "gone.py").symlink_to(project / "nothing")
    tree = scan([Filter(str(project))])
    assert tree.directories == {str(project), str(project / "lib")}
    assert set(tree.files) == {str(project / "lib/lib.py")}


def test_what_is_not_there_is_passed_over(tmp_path: Path) -> None:
    """A root that is gone is in no tree; neither is a file without a stamp."""
    assert scan([Filter(str(tmp_path / "none"))]).directories == frozenset()
    assert stamp(str(tmp_path / "none.py")) is None


def test_differences_are_what_came_went_or_was_written(tmp_path: Path) -> None:
    """Also a file of the same size and time that was renamed over the old one."""
    filters = [Filter(str(tmp_path))]
    kept, written, gone, replaced = (write(tmp_path / f"{name}.py", "old") for name in ("a", "b", "c", "d"))
    before = scan(filters).files
    assert differences(before, scan(filters).files) == set()
    write(written, "longer")
    gone.unlink()
    fresh = write(tmp_path / "d.tmp", "new")
    times = os.stat(replaced)
    os.utime(fresh, ns=(times.st_atime_ns, times.st_mtime_ns))
    fresh.rename(replaced)
    new = write(tmp_path / "e.py")
    found = differences(before, scan(filters).files)
    assert found == {str(written), str(gone), str(replaced), str(new)} and str(kept) not in found


def test_tree_is_another_when_a_directory_comes_or_goes(tmp_path: Path) -> None:
    """Not for a file, not for a directory that is excluded."""
    filters = [Filter(str(tmp_path))]
    pkg = tmp_path / "pkg"
    pkg.mkdir()
    (tmp_path / ".git").mkdir()
    write(tmp_path / "app.py")
    watched = scan(filters).directories
    for name, expected in (("pkg", True), ("app.py", False), (".git", False), ("gone", False)):
        assert is_other_tree([str(tmp_path / name)], watched, filters) is expected
    (tmp_path / "new").mkdir()
    assert is_other_tree([str(tmp_path / "new")], watched, filters)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_directory_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """A database's in the middle of the project hinders nobody."""
    (tmp_path / "pgdata").mkdir(mode=0)
    (tmp_path / "z").mkdir()
    assert scan([Filter(str(tmp_path))]).directories == {str(tmp_path), str(tmp_path / "z")}
