"""The count of instructions says what has grown, and compares nothing that cannot be compared."""

from __future__ import annotations

import compileall
import json
import shutil
from pathlib import Path

import pytest

from tests.benchmarks import instructions
from tests.benchmarks.instructions import LIMIT, ROOT, Counted, Last, build, grown, main, self_costs, table
from tests.benchmarks.overhead import cut

DUMP = """# callgrind format
version: 1
positions: line
events: Ir
summary: 130

ob=(1) /usr/bin/python3
fl=(1) ceval.c
fn=(1) eval
10 100
cfn=(2) eval'2
calls=2 20
+1 25
* 5
fn=(2)
20 10
cfn=(3) lookup
calls=1 30
+2 15
fn=(3)
30 15

totals: 130
"""


def last(build_name: str) -> Last:
    return Last("CPython, pure", build_name, {"hello": 1000})


def test_more_than_the_limit_is_an_error() -> None:
    """A figure that grew by more than the limit is told, with what to do."""
    assert grown({"hello": 1000 * LIMIT}, last(build())) == []
    (line,) = grown({"hello": 1000 * LIMIT + 1}, last(build()))
    assert line.startswith("hello: 1,051 instructions are 1.05 x the last 1,000")
    assert "--update" in line


def test_another_build_of_python_is_not_compared() -> None:
    """Counts belong to one interpreter: of another one nothing is an error."""
    assert grown({"hello": 9000}, last("another")) == []


def test_what_was_never_counted_is_no_error() -> None:
    """A new workload has no last figure."""
    assert grown({"new": 9000}, last(build())) == []


def test_figures_of_other_sorts_stay(tmp_path: Path) -> None:
    """Writing replaces the figures that were counted, of this Python and this kind, and no others."""
    path = tmp_path / "figures.json"
    Last.read(path, "pure").write(path, {"hello": 1000.4, "echo": 10})
    Last.read(path, "compiled").write(path, {"hello": 500})
    Last.read(path, "pure").write(path, {"hello": 900})
    assert Last.read(path, "pure").instructions == {"hello": 900, "echo": 10}
    assert Last.read(path, "compiled").instructions == {"hello": 500}
    assert Last.read(path, "pure").build == build()


def test_figures_of_another_build_go(tmp_path: Path) -> None:
    """Two builds are never mixed under one name."""
    path = tmp_path / "figures.json"
    key = Last.read(path, "pure").key
    path.write_text(json.dumps({key: {"build": "another", "instructions": {"hello": 1, "echo": 1}}}))
    Last.read(path, "pure").write(path, {"hello": 900})
    assert Last.read(path, "pure").instructions == {"hello": 900}


def test_table_has_what_is_there() -> None:
    """Each figure stands beside the last one and the others', as far as they have one."""
    counts = {"hybrid": {"hello": 1100.0, "echo": 20.0}, "bare": {"echo": 10.0}, "uvicorn": {"hello": 2200.0}}
    head, hello, echo = table(counts, last(build())).splitlines()
    assert head.split() == ["now", "last", "ratio", "bare", "x", "bare", "uvicorn", "x", "uvicorn"]
    assert hello.split() == ["hello", "1,100", "1,000", "1.100", "-", "-", "2,200", "0.50"]
    assert echo.split() == ["echo", "20", "-", "-", "10", "2.00", "-", "-"]


def test_costs_of_a_function_are_its_own(tmp_path: Path) -> None:
    """What a function calls is not in its cost; its recursion is one function."""
    path = tmp_path / "dump"
    path.write_text(DUMP)
    assert self_costs(path) == {"eval": 115, "lookup": 15}


def test_without_valgrind_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine without valgrind has no figures, which is no error."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main([]) == 0
    assert "no valgrind" in capsys.readouterr().out


def test_what_overhead_cuts_is_there(tmp_path: Path) -> None:
    """The source without counters, limits and deadlines is made from the source as it is: no cut is out of date."""
    cut(tmp_path)
    assert compileall.compile_dir(tmp_path / "hybrid" / "connection", quiet=1)


@pytest.mark.parametrize("name", ["hybrid", "bare"])
def test_servers_answer_every_workload_of_theirs(name: str, tmp_path: Path) -> None:
    """The process that is counted serves what it says, counted or not, and ends when it is told."""
    server = Counted(name, ROOT, tmp_path, counts=False)
    try:
        assert server.wait_ready()
        served = []
        for workload in instructions.ASKED:
            asking = server.asking(workload)
            if asking is not None:
                asking.ask(2)
                asking.close()
                served.append(workload)
        assert served == (["hello", "headers", "connections", "echo"] if name == "bare" else list(instructions.ASKED))
    finally:
        server.end()
