"""``hybrid-bench`` on real servers: its JSON, its errors, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.bench.measure import tree
from tests.support.eventually import eventually
from tests.support.server import ROOT, is_alive
from tests.support.tied import tied
from tests.support.variations import long

COMMAND = [sys.executable, "-m", "hybrid.cli.bench"]
SMALL = ("--rounds", "1", "--for-s", "0.1", "--connections", "20", "--rate", "500")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(tied([*COMMAND, *arguments]), cwd=ROOT, capture_output=True, text=True, timeout=50)


def test_comparison_measures_every_model_asked_for() -> None:
    """CPU, distribution of a burst and of held connections, with the baseline, as JSON."""
    done = bench("accept", "--models", "shared,shared=plain", "--workers", "2", *SMALL, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    (report,) = json.loads(done.stdout)["reports"]
    rows = {row["design"]["name"]: row for row in report["rows"]}
    assert rows.keys() == {"one-loop", "shared", "shared=plain"}
    for row in rows.values():
        assert row["load"]["derived"]["cpu_us"] > 0 and row["load"]["latencies"]["count"] > 0
        assert row["load"]["lost"] == row["light"]["lost"] == 0
        assert sum(row["burst"]["counts"]) == 20 and sum(row["held"]["first"]["counts"]) == 20
    held = rows["shared"]["held"]
    assert sum(held["again"]["counts"]) == held["first"]["counts"][1] + 10  # slot 0 was killed with what it held
    assert rows["shared"]["load"]["derived"]["against_reference"]["median"] > 0


@pytest.mark.long
def test_faults_without_load_are_given_at_a_rate_that_the_design_keeps() -> None:
    """A fork for each client does not do 2000/s; a short load shows what it does, and is not in the figures."""
    done = bench("accept", "--models", "fork", "--workers", "2", "--scenario", "kill", "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    (report,) = json.loads(done.stdout)["reports"]
    row = next(row for row in report["rows"] if row["design"]["name"] == "fork")
    assert 0 < row["kill"]["per_s"] <= 2000 and row["load"] is None
    assert row["kill"]["refused"] + row["kill"]["reset"] + row["kill"]["timed_out"] <= row["kill"]["planned"] / 4


@pytest.mark.long
def test_users_handler_is_asked_and_misfits_are_reported() -> None:
    """An echo does not close: the reply is what came back. A model of the other kind is named with the reason."""
    done = bench(
        *("accept", "--handler", "examples/echo.py:echo", "--models", "shared,fork", "--scenario", "light"),
        *("--workers", "2", *SMALL, "--request", r"hello\n"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "examples/echo.py:echo: 1 rounds of 0.1 s" in done.stdout
    assert "cannot serve a handler that runs in the event loop" in done.stdout
    assert "from 1 round: measure at least 6" in done.stdout


@pytest.mark.long
def test_scenario_that_takes_several_workers_says_so() -> None:
    """An empty answer would look like a fault."""
    done = bench("accept", "--models", "iterative", "--scenario", "held,kill", *SMALL)
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert "Nothing is shown for held and kill: they take two workers, and iterative has one." in said
    assert "only iterative, a baseline, was measured: there is nothing to compare it with" in said


def test_steady_load_on_a_handler() -> None:
    """Messages, percentiles, CPU, memory of a worker and of a connection."""
    done = bench(
        *("handler", "examples/echo.py:echo", "--workers", "1", "--connections", "8", "--idle", "50"),
        *("--rounds", "2", "--for-s", "0.2", "--json"),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    told = json.loads(done.stdout)
    assert told["kind"] == "stream" and told["reply"] == {"ends": "bytes", "size_bytes": 6}
    assert told["lost"] == 0 and told["latencies"]["count"] > 100
    assert min(told["cpu_us"]) > 0 and told["worker_bytes"] > 1_000_000 and told["idle"] == 50


@pytest.mark.long
def test_blocking_handler_gets_as_many_connections_as_it_has_threads(tmp_path: Path) -> None:
    """None waits in vain, so none is lost; also when no idle connections have shown how many threads there are."""
    (tmp_path / "talk.py").write_text(
        "def talk(sock):\n    while data := sock.recv(4096):\n        sock.sendall(data)\n", encoding="utf-8"
    )
    done = bench(
        *("handler", f"{tmp_path}/talk.py:talk", "--workers", "1", "--threads", "3", "--idle", "0"),
        *("--rounds", "1", "--for-s", "0.2", "--json"),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    told = json.loads(done.stdout)
    assert (told["connections"], told["lost"]) == (3, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["handler", "examples/fetch.py:fetch", "--request", r"1\n"], 2, "hybrid-bench accept --handler"),
        (
            ["handler", "examples/keyvalue.py:serve", "--request", r"get a\n"],
            1,
            "log: handler serve failed",
        ),
        long(["handler", "examples/nobody.py:echo"], 4, "nobody.py does not exist"),
        long(["accept", "--handler", "examples/nobody.py:echo"], 4, "nobody.py does not exist"),
        long(["accept", "--rounds", "many"], 2, "--rounds"),
        long(
            ["accept", "--handler", "examples/echo.py:echo", "--models", "threads,fork"],
            2,
            "Give one of shared=plain, ",
        ),
        long(["accept", "--handler", "blocking", "--models", "shared"], 2, "Give one of fork, threads, "),
    ],
)
def test_failure_is_one_line_and_a_code(arguments: list[str], code: int, words: str) -> None:
    """No traceback; the codes are hybrid-serve's."""
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("hybrid-bench: error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1


def running_bench() -> tuple[subprocess.Popen[str], set[int]]:
    """Start a long comparison; return it and every process of it, once workers are among them."""
    arguments = ["accept", "--models", "shared", "--workers", "2", "--rounds", "100"]
    process = subprocess.Popen(tied([*COMMAND, *arguments]), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    # Two clients, and twice a parent, a mold and their workers.
    everyone = eventually(lambda: found if len(found := set(tree(process.pid))) >= 10 else set())
    return process, everyone


def end(process: subprocess.Popen[str], everyone: set[int]) -> str:
    """Wait for the end; whatever the test found, leave nothing behind. Return what was said."""
    try:
        _, said = process.communicate(timeout=20)
        eventually(lambda: not [pid for pid in everyone if is_alive(pid)])
        return said
    finally:
        for pid in everyone:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, long(signal.SIGTERM)])
def test_interrupted_bench_leaves_no_process_behind(number: signal.Signals) -> None:
    """Servers, workers and clients end; the code is the shell's for the signal."""
    process, everyone = running_bench()
    process.send_signal(number)
    said = end(process, everyone)
    assert process.returncode == 128 + number and "nothing is left running" in said


@pytest.mark.long
def test_killed_bench_leaves_no_process_behind() -> None:
    """Nobody can clean up then but the kernel: it tells the servers, and the clients' input ends."""
    process, everyone = running_bench()
    process.kill()
    end(process, everyone)


@pytest.mark.long
def test_picture_is_written(tmp_path: Path) -> None:
    """A file that is the picture asked for; without matplotlib, an error that says what to install."""
    path = tmp_path / "picture.svg"
    arguments = ["accept", "--models", "shared", "--scenario", "burst,load", "--workers", "2", *SMALL]
    done = bench(*arguments, "--plot", str(path))
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert done.returncode == 2 and "pip install 'hybrid[plot]'" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert path.read_text(encoding="utf-8").lstrip().startswith("<?xml") and "one-loop" in path.read_text()
