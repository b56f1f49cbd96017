"""The HTTP load of the benchmarks counts exactly, and refuses what is not the answer; servers are never left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.bench.measure import tree
from tests.benchmarks import http_load, peer_turn, peers
from tests.benchmarks.http_load import Load, Workload, WrongAnswer, read_answer
from tests.benchmarks.http_workloads import BARS, WORKLOADS
from tests.benchmarks.measure import scheduler
from tests.benchmarks.peer_commands import HYBRID, HYBRID_COMPILED, PEERS, Setup, hybrid, kind_of
from tests.benchmarks.peer_report import Row, against, as_json, markdown, missed, table
from tests.benchmarks.peer_servers import ROOT, Running
from tests.benchmarks.peer_turn import Turn
from tests.component.test_load_generator import TinyServer
from tests.support.eventually import eventually
from tests.support.ports import closed_port
from tests.support.server import is_alive, session_members
from tests.support.variations import long

BODY = b"Hello, world"
FINE = b"HTTP/1.1 200 OK\r\ndate: now\r\nContent-Length: 12\r\n\r\n" + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nHello, \r\n5\r\nworld\r\n0\r\n\r\n"
WORKLOAD = Workload("hello", "a test", "none", lambda number: b"GET /%d HTTP/1.1\r\n\r\n" % number, BODY, connections=3)


class Answering(TinyServer):
    """Answers each request with what ``answer`` makes of its number on this connection; None closes."""

    def __init__(self, answer: Callable[[int], bytes | None]) -> None:
        self.asked = 0
        self._answer = answer
        super().__init__(self._requests)

    def _requests(self, _number: int, sock: socket.socket) -> None:
        at, data = 0, b""
        while more := sock.recv(65536):
            *whole, data = (data + more).split(b"\r\n\r\n")
            for _ in whole:
                with self._lock:
                    self.asked += 1
                answer = self._answer(at)
                at += 1
                if answer is None:
                    return
                sock.sendall(answer)


@contextmanager
def answering(answer: Callable[[int], bytes | None]) -> Iterator[Answering]:
    server = Answering(answer)
    try:
        yield server
    finally:
        server.close()


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", [FINE, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("depth", [1, 16])
def test_each_answer_is_counted_once(answer: bytes, depth: int) -> None:
    """What the load says it got is what the server was asked, but for the answers that open the connections."""
    workload = replace(WORKLOAD, depth=depth)
    with answering(lambda at: answer) as server, Load(server.port, workload) as load:
        opening = server.asked
        assert opening == 1 + 3 * depth
        count = load.run(0.02)
        assert count == server.asked - opening
        assert count >= 3 * depth


def test_a_connection_per_request_is_counted_once() -> None:
    """The server closes after each answer; no connection is used again, and none is open at the end."""
    workload = replace(WORKLOAD, keeps_alive=False)
    with answering(lambda at: None if at else FINE) as server:
        # The second request of each connection makes this server close.
        with Load(server.port, replace(workload, request=lambda number: b"GET / HTTP/1.1\r\n\r\n" * 2)) as load:
            count = load.run(0.02)
        assert count >= 3
        assert server.accepted == count + 1
        assert eventually(lambda: server.open == 0)


# ── refusing ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (FINE.replace(b"200", b"500"), "not 200 but begins with b'HTTP/1.1 500"),
        (FINE.replace(b"world", b"World"), "wanted are 12"),
        (FINE.replace(b"12", b"11")[:-1], "the body has 11 bytes"),
        (FINE + b"!", "1 bytes come behind the answer"),
        (CHUNKED + b"!", "1 bytes come behind the last chunk"),
        (CHUNKED.replace(b"o, ", b"o,! "), "a chunk of 7 bytes ends with"),
        (FINE.replace(b"Length", b"Size"), "no length"),
        (b"nonsense", "not 200"),
        (None, "closed after b''"),
    ],
)
def test_a_server_that_answers_wrongly_is_not_measured(wrong: bytes | None, said: str) -> None:
    """The first answer is read as the RFC has it."""
    with answering(lambda at: wrong) as server:
        with pytest.raises(WrongAnswer, match=said), Load(server.port, WORKLOAD):
            pass
        assert eventually(lambda: server.open == 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (FINE.replace(b"200", b"500"), "not as the first one"),
        (FINE.replace(b"world", b"World"), "not as the first one"),
        (FINE + b"!", "bytes came instead"),
        (FINE[:-1], "nothing came for"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 503"),
        (None, "closed a connection after"),
    ],
)
@pytest.mark.parametrize("depth", [1, 4])
def test_one_wrong_answer_among_right_ones_ends_the_measurement(
    wrong: bytes | None, said: str, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of the fast checks finds it as well, and the connections are closed."""
    if said == "nothing came for":
        monkeypatch.setattr(http_load, "PATIENCE_S", 0.2)
    workload = replace(WORKLOAD, depth=depth)
    with answering(lambda at: wrong if at == 5 * depth - 1 else FINE) as server:
        with Load(server.port, workload) as load, pytest.raises(WrongAnswer, match=said):
            load.run(5.0)
        assert eventually(lambda: server.open == 0)


def test_a_server_that_is_gone_is_said() -> None:
    """Nobody listens."""
    with closed_port() as port, pytest.raises(WrongAnswer, match=r"no answer: .*refused"), Load(port, WORKLOAD):
        pass


@pytest.mark.parametrize("answer", [FINE, CHUNKED])
def test_the_beginning_of_an_answer_is_none_yet(answer: bytes) -> None:
    """Wherever it was cut."""
    assert [read_answer(answer[:cut]) for cut in range(len(answer))] == [None] * len(answer)
    assert read_answer(answer) == BODY


def test_no_two_requests_of_a_browser_are_the_same() -> None:
    """A server that remembers what it has read does not profit; where it may, they are the same but for nothing."""
    assert {WORKLOADS["memo"].request(number) for number in range(3)} == {WORKLOADS["headers"].request(0)}
    assert len({WORKLOADS["headers"].request(number) for number in range(100)}) == 100
    assert WORKLOADS["headers"].request(1).count(b"\r\n") == 12 + 2


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_hybrid_is_measured_and_a_missing_peer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round with a real server; what is not installed has a row without figures."""
    monkeypatch.setattr(peer_turn, "WARM_UP_S", 0.02)
    missing = replace(PEERS["granian"], problem="not installed")
    static = replace(PEERS["nginx"], problem="", only_app="apps_http:hello")
    wsgi = replace(PEERS["gunicorn"], problem="")
    candidates = [hybrid(HYBRID, ROOT), missing, static, wsgi]
    mine, *others = peers.measure(WORKLOADS["upload"], candidates, peers.Plan(1, 0.02))
    assert not mine.problem
    assert mine.cpu_us[0] > 0
    assert [(row.name, row.problem, row.cpu_us) for row in others] == [("granian", "not installed", [])]


@pytest.mark.parametrize("logs", [True, False])
def test_a_server_that_is_said_to_log_is_asked_for_its_lines(logs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer has one; what does not log, and was to, has no figure."""
    monkeypatch.setattr(peer_turn, "WARM_UP_S", 0.02)
    candidate = replace(hybrid(HYBRID, ROOT, Setup(logged=logs)), access_log="access.log")
    (mine,) = peers.measure(WORKLOADS["hello"], [candidate], peers.Plan(1, 0.02))
    assert mine.problem == "" if logs else "its access log has 0 lines for " in mine.problem


def test_a_tree_is_compiled_if_it_says_so_or_has_libraries(tmp_path: Path) -> None:
    """The tree that is asked about, not the one that asks."""
    http = tmp_path / "hybrid" / "http"
    http.mkdir(parents=True)
    tmp_path.joinpath("hybrid", "__init__.py").touch()
    assert kind_of(tmp_path) == "pure"
    http.joinpath("head.cpython-311.so").touch()
    assert kind_of(tmp_path) == "compiled"
    build = tmp_path / "hybrid" / "ground" / "build.py"
    build.parent.mkdir()
    build.parent.joinpath("__init__.py").touch()
    build.write_text("def kind() -> str:\n    return 'pure'\n")
    assert kind_of(tmp_path) == "pure"
    assert hybrid("hybrid", tmp_path).version.endswith(" (pure)")


def test_a_server_that_ends_gives_its_reason() -> None:
    """Its last line says what was wrong, and nothing of it is left."""
    running = Running(hybrid("hybrid", ROOT), "no_such_module:app")
    try:
        with pytest.raises(WrongAnswer, match=r"it ended with .*no_such_module"):
            running.wait_ready(WORKLOAD)
    finally:
        running.end()


@pytest.mark.parametrize("number", [signal.SIGINT, long(signal.SIGTERM), long(signal.SIGKILL)])
def test_servers_end_with_the_benchmark(number: signal.Signals, tmp_path: Path) -> None:
    """Whatever ends it, Ctrl-C or worse. Until then the load is on another CPU than they are."""
    command = [sys.executable, "-m", "tests.benchmarks.peers", "--self", "--workload", "hello", "--seconds", "60"]
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=quiet, stderr=quiet) as bench:
        try:
            servers = eventually(lambda: server_of(bench.pid))
            apart = os.sched_getaffinity(servers[0]) != os.sched_getaffinity(bench.pid)
            bench.send_signal(number)
            bench.wait(20)
        finally:
            bench.kill()
    try:
        assert eventually(lambda: not any(is_alive(pid) for pid in servers))
    except AssertionError:
        for pid in filter(is_alive, servers):
            os.kill(pid, signal.SIGKILL)
        raise
    assert number == signal.SIGKILL or not list(tmp_path.iterdir())
    assert apart or len(os.sched_getaffinity(0)) == 1


def server_of(bench: int) -> list[int]:
    """Return the processes of the server that a benchmark has started, if it is up: two at least, its parent first."""
    for pid in tree(bench):
        members = session_members(pid) if pid != bench else []
        if len(members) > 1:
            return sorted(members, key=lambda each: each != pid)
    return []


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────


def row(name: str, *cpu_us: float, problem: str = "") -> Row:
    """Return a row with rounds of a second, a thousand requests each."""
    made = Row(name, "1.0", problem)
    for each in cpu_us:
        made.add(Turn(1000, 1_000_000_000, int(each * 1e6), 500_000_000, 0))
    return made


def test_servers_are_compared_by_the_ratios_of_rounds() -> None:
    """A slow minute that both had is no difference."""
    ours, its = row("hybrid", 10, 20, 40), row("uvicorn", 20, 40, 80)
    paired = against(ours, its)
    assert paired is not None
    assert (paired.median, paired.low, paired.high) == (0.5, 0.5, 0.5)
    assert "bar: hybrid <= 0.68 x uvicorn: 0.50 [0.50-0.50] kept" in table("hello", [its, ours], [ours])


@pytest.mark.parametrize(("cost", "misses"), [(6.8, False), (6.9, True)])
def test_a_bar_is_missed_from_just_above_it(cost: float, misses: bool) -> None:
    """At the bar it holds; a workload without a bar misses none."""
    rows = [row("uvicorn", 10, 10), row("hybrid", cost, cost)]
    assert missed("hello", rows) == misses
    assert not missed("download", rows)
    assert ("MISSED" in table("hello", rows, rows[1:])) == misses


def test_pure_and_compiled_have_bars_of_their_own() -> None:
    """And each is told, with what it was held against; an aim is never missed."""
    rows = [row("uvicorn", 10), row("granian", 5), row(HYBRID, 6), row(HYBRID_COMPILED, 6)]
    told = table("hello", rows, rows[2:])
    assert "bar: hybrid <= 0.68 x uvicorn: 0.60 [0.60-0.60] kept" in told
    assert "bar: hybrid compiled <= 0.55 x uvicorn: 0.60 [0.60-0.60] MISSED" in told
    assert "bar: hybrid compiled <= 1.00 x granian: 1.20 [1.20-1.20] MISSED" in told
    assert "bar: hybrid compiled" not in table("hello", rows[:3], rows[2:3])
    rows = [row("uvicorn", 20), row("granian", 5), row(HYBRID, 6)]
    assert not missed("connections", rows)
    assert "aim: hybrid <= 1.00 x granian: 1.20 [1.20-1.20] not reached" in table("connections", rows, rows[2:])


@pytest.mark.parametrize(
    ("costs", "told"),
    [
        ([6.7] * 5, "kept, but so near"),
        ([4.0] * 5, "kept"),
        ([6.7] * 15, "kept"),
        ([6.0, 6.7, 6.9] * 5, "kept, but the"),
    ],
)
def test_a_ratio_near_its_bar_takes_more_rounds(costs: list[float], told: str) -> None:
    """Within 1.2 times: 15 of them; and then it is told whether the bar is in the interval."""
    rows = [row("uvicorn", *[10.0] * len(costs)), row(HYBRID, *costs)]
    last = table("hello", rows, rows[1:]).splitlines()[-1]
    assert f"] {told}" in last
    assert ("but" in last) == ("but" in told)


def test_a_table_says_under_which_scheduler_it_was_measured() -> None:
    """It decides about what some of the peers cost."""
    assert table("hello", [row(HYBRID, 10)], []).splitlines()[1].endswith(f"1 rounds, {scheduler()}")


def test_a_row_without_figures_says_why_everywhere() -> None:
    """In the table, in Markdown, in JSON."""
    rows = [row("uvicorn", problem="is not installed"), row("hybrid", 10, 10)]
    assert "is not installed" in table("hello", rows, rows[1:])
    assert "bar: hybrid <= 0.68 x uvicorn: not measured" in table("hello", rows, rows[1:])
    line = "| 12 bytes, keep-alive | hybrid | 10.0 (10.0–10.0) | 0.68 x uvicorn: not measured |"
    assert markdown({"hello": rows}, ["hybrid"]).splitlines()[2] == line
    written = json.loads(json.dumps(as_json({"hello": rows}, ["hybrid"])))
    assert written["workloads"]["hello"]["servers"]["uvicorn"]["problem"] == "is not installed"
    assert written["workloads"]["hello"]["servers"]["hybrid"]["cpu_us"] == [10.0, 10.0]


def test_a_machine_with_other_work_is_said_to_have_it() -> None:
    """The load had to wait for its CPU."""
    busy = Row("hybrid", "1.0")
    busy.add(Turn(1000, 1_000_000_000, 10_000_000, 500_000_000, 100_000_000))
    assert "not a quiet machine: the load waited for its CPU 10%" in table("hello", [busy], [busy])
    assert "not a quiet machine" not in table("hello", [row("hybrid", 10)], [])


def test_each_bar_is_of_a_workload_that_exists() -> None:
    """A bar of nothing would never be missed."""
    assert BARS.keys() <= WORKLOADS.keys()
    bars = [bar for each in BARS.values() for bar in each]
    assert {bar.against for bar in bars} <= PEERS.keys()
    assert {bar.candidate for bar in bars} == {HYBRID, HYBRID_COMPILED}


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────


def test_help_names_workloads_and_peers(capsys: pytest.CaptureFixture[str]) -> None:
    """What can be chosen is in --help."""
    with pytest.raises(SystemExit, match="0"):
        peers.main(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in [*WORKLOADS, *PEERS])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "4"], "--rounds 4 is too few"),
        (["--starts", "0"], "--starts 0"),
        (["--seconds", "0"], "--seconds 0"),
        (["--tree", "/"], "--tree / holds no hybrid/"),
        (["--compiled", "/"], "--compiled / holds no hybrid/"),
        (["--tree", str(ROOT), "--tree", str(ROOT)], "add --self"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the value and the remedy."""
    with pytest.raises(SystemExit, match="2"):
        peers.main(arguments)
    assert said in capsys.readouterr().err
