"""Which line of a stack is to blame, and what is read from a faulthandler dump, whatever it is."""

from __future__ import annotations

import os
import sysconfig

from hypothesis import given
from hypothesis import strategies as st

from hybrid.shared import places
from hybrid.shared.places import Place, read_stacks, to_blame

STANDARD = Place(f"{sysconfig.get_paths()['stdlib']}/socket.py", 718, "readinto")
INSTALLED = Place("/srv/venv/lib/python3.12/site-packages/driver/wire.py", 5, "read")
OURS = Place(places.__file__, 1, "handle")
FROZEN = Place("<frozen runpy>", 88, "_run_code")
USERS = Place("/srv/app.py", 41, "handler")

DUMP = """\
Thread 0x00007f1c0b7fe6c0 [hybrid] (most recent call first):
  File "/srv/other.py", line 3 in work

Current thread 0x00007f1c0d015b80 [python] (most recent call first):
  File "/usr/lib/python3.12/re/__init__.py", line 166 in match
  File "/srv/a "b".py", line 41 in <module>
  ...

Extension modules: x (total: 1)
"""

OTHERS = """\
Thread 0x00007f1c0b7fe6c0 (most recent call first):
  File "/srv/other.py", line 3 in work

Current thread 0x00007f1c0b7fe6c1 (most recent call first):
  File "/srv/hybrid/worker/watchdog.py", line 45 in _watch

Thread 0x00007f1c0d015b80 (most recent call first):
  File "/srv/app.py", line 41 in handler
"""


def test_users_line_is_to_blame() -> None:
    """Not the library that it calls, nor what called it."""
    assert to_blame([STANDARD, INSTALLED, USERS, OURS, FROZEN]) == USERS
    assert str(USERS) == "/srv/app.py:41 in handler"


def test_innermost_of_the_users_lines_is_to_blame() -> None:
    """The line that blocks, not the one that called the function with it."""
    assert to_blame([STANDARD, USERS, Place("/srv/app.py", 90, "main")]) == USERS


def test_installed_package_is_to_blame_when_nobody_else_is() -> None:
    """An app that was installed is to be found, too."""
    assert to_blame([STANDARD, INSTALLED, OURS]) == INSTALLED


def test_innermost_line_is_to_blame_when_all_are_the_systems() -> None:
    """Better than nothing."""
    assert to_blame([STANDARD, OURS, FROZEN]) == STANDARD
    assert to_blame([]) is None


def test_main_thread_comes_first() -> None:
    """faulthandler puts it last; the reader wants it first. Names of threads, and odd names of files, are taken."""
    found, text = read_stacks(DUMP)
    assert found == [
        Place("/usr/lib/python3.12/re/__init__.py", 166, "match"),
        Place('/srv/a "b".py', 41, "<module>"),
    ]
    assert text.startswith("Current thread 0x00007f1c0d015b80 [python]")
    assert sorted(text.split("\n")) == sorted(line for line in DUMP.split("\n") if line)


def test_main_thread_is_told_by_another() -> None:
    """One that has blocked the signals: another thread takes the signal, and is not to blame."""
    found, text = read_stacks(OTHERS)
    assert found == [USERS] and text.startswith("Thread 0x00007f1c0d015b80")


def test_main_thread_that_is_missing_is_nobody_else() -> None:
    """faulthandler tells of a hundred threads, and the main one would be the last; asked alone it is there."""
    many = OTHERS.rpartition("\n\n")[0] + "\n\n...\n"
    assert read_stacks(many)[0] == []
    found, text = read_stacks(f'{many}Stack (most recent call first):\n  File "/srv/app.py", line 41 in handler\n')
    assert found == [USERS] and text.startswith("Stack (") and "watchdog.py" in text


@given(st.text(), st.lists(st.sampled_from(DUMP.splitlines(keepends=True))).map("".join))
def test_anything_is_read(noise: str, lines: str) -> None:
    """A worker may write what it likes where its dump is looked for."""
    for text in (noise, lines, noise + lines, lines + noise, "Current thread 0x" + noise):
        found, _text = read_stacks(text)
        assert all(isinstance(each, Place) for each in found)


def test_real_dump_is_read() -> None:
    """What this interpreter's faulthandler writes."""
    import faulthandler
    import tempfile

    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        found, _text = read_stacks(file.read())
    assert found[0].function == "test_real_dump_is_read"
    assert os.path.samefile(found[0].file, __file__)
