"""``hybrid-ctl`` against a socket with canned answers: what it prints, and what it leaves with."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from hybrid.cli import ctl_show
from hybrid.cli.ctl import main
from hybrid.ground.errors import ControlExit
from tests.support.fake_control import Answer, control, notices, snapshot, worker

Capture = pytest.CaptureFixture[str]


def run(tmp_path: Path, line: str, answer: Answer, op: str = "") -> tuple[int, list[tuple[str, dict[str, Any]]]]:
    """Run a command with one canned answer; return the exit code, and what was asked."""
    words = line.split()
    with control(tmp_path / "s.sock", **{op or words[0]: answer}) as fake:
        return main([*words, "--control", fake.path]), fake.asked


def test_status_says_who_how_large_and_how_busy(tmp_path: Path, capsys: Capture) -> None:
    """And a row for each worker."""
    code, _ = run(tmp_path, "status", {"ok": True, "result": snapshot([worker(0), worker(1, life="parked")])})
    said = capsys.readouterr().out
    assert code == ControlExit.DONE
    assert "shop.api:app (ASGI application), on 0.0.0.0:8000" in said
    assert "hybrid 0.1.0, pid 40990, up 3 h 12 min; running, ready, generation 3" in said
    assert "1 ready of 4, sized within 2..8, 1 on standby" in said
    assert "last decision  3 → 4 workers (demand): 1.9 loops busy" in said
    assert "42 % used, 1 % waiting for a CPU" in said
    assert [line.split()[:2] for line in said.splitlines() if "4100" in line] == [["0", "ready"], ["1", "parked"]]


def test_status_tells_of_a_reload_that_failed(tmp_path: Path, capsys: Capture) -> None:
    """It is the first that one has to know."""
    reload = {"stage": "idle", "source": "", "failure": "the app cannot be imported"}
    run(tmp_path, "status", {"ok": True, "result": snapshot(reload=reload)})
    assert "The last reload failed: the app cannot be imported" in capsys.readouterr().out


def test_unknown_figures_are_dashes(tmp_path: Path, capsys: Capture) -> None:
    """Never zeros, and never an error."""
    unknown = worker(0, loop_use=None, lag_s=None, memory_bytes=None, run_queue=None, requests_per_s=None)
    found = snapshot([unknown])
    found["totals"] = {**dict.fromkeys(found["totals"]), "ready": 1, "workers": 1, "replaced": {}}
    assert run(tmp_path, "status", {"ok": True, "result": found})[0] == ControlExit.DONE
    assert "– used" in capsys.readouterr().out


def test_json_is_the_result(tmp_path: Path, capsys: Capture) -> None:
    """As the server sent it."""
    found = snapshot()
    run(tmp_path, "status --json", {"ok": True, "result": found})
    assert json.loads(capsys.readouterr().out) == found


def test_workers_are_a_table(tmp_path: Path, capsys: Capture) -> None:
    """A line each, under names."""
    run(tmp_path, "workers", {"ok": True, "result": {"workers": [worker(0), worker(3)]}})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["slot", "state", "pid"] and len(lines) == 3


def test_narrow_terminal_goes_without_columns() -> None:
    """80 characters have room for what matters, and a wide terminal for all."""
    (table,) = [each for each in ctl_show.workers({"workers": [worker(0)]}) if not isinstance(each, str)]
    assert table.within(200, 3) == table
    narrow = table.within(80, 3)
    assert {"slot", "state", "pid", "loop", "lag", "conn", "req/s", "memory"} <= set(narrow.columns)
    assert sum(narrow.widths()) + 3 * len(narrow.columns) <= 80
    assert [len(row) for row in narrow.rows] == [len(narrow.columns)]


def test_events_are_told_as_they_come(tmp_path: Path, capsys: Capture) -> None:
    """A line each; as JSON: an object each."""
    answer = {"events": [{"ev": "notice", "notice": each} for each in notices()], "ok": True, "result": {"events": 8}}
    code, asked = run(tmp_path, "events --last 8", answer)
    lines = capsys.readouterr().out.splitlines()
    assert (code, asked) == (ControlExit.DONE, [("events", {"follow": False, "last": 8})])
    assert len(lines) == len(notices()) and lines[4].endswith("worker 1 is ready, pid 41001")
    run(tmp_path, "events --json", answer)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == notices()


@pytest.mark.parametrize("last", [20, 0])
def test_follower_comes_again_until_nobody_is_there(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """What it has told it tells no more; another server at the same path counts anew, and is told from its start."""
    later = [{**each, "at": each["at"] + 1000} for each in notices()[:3]]
    told = [[{"ev": "notice", "notice": each} for each in some] for some in (notices(), later)]
    answers: dict[str, Answer] = {"events": {"events": told[0] if last else [], "ok": True, "result": {}}}
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            answers["events"] = {"events": told[1], "ok": True, "result": {}}
        elif len(pauses) == 4:
            fake.close()

    monkeypatch.setattr("time.sleep", pause)
    with control(tmp_path / "s.sock") as fake:
        fake._answers = answers
        assert main(["events", "--follow", "--json", "--last", str(last), "--control", fake.path]) == ControlExit.DONE
        asked = [args["last"] for _, args in fake.asked]
    assert asked == ([20, 1000, 1000, 1000] if last else [0, 0, 0, 1000])
    expected = [*(notices() if last else []), *later]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected


def test_first_look_of_a_control_process_is_followed_by_another(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates are the difference of two."""
    monkeypatch.setattr("hybrid.cli.ctl.RATE_S", 0.0)
    answer = {"ok": True, "result": {"workers": [worker(0, accepted_per_s=None)]}}
    assert len(run(tmp_path, "workers", answer)[1]) == 2
    assert capsys.readouterr().out.count("4100") == 1


def test_what_the_log_repeats_is_told_once(tmp_path: Path, capsys: Capture) -> None:
    """A line of the log that says what a notice says is left out; as JSON all is there."""
    told = [
        {"notice": "logged", "at": 1.0, "level": "info", "who": "parent", "text": "worker 0 (pid 7) is ready"},
        {"notice": "worker_ready", "at": 1.0, "slot": 0, "pid": 7},
        {"notice": "logged", "at": 1.0, "level": "info", "who": "parent", "text": "control: reloading"},
        {
            "notice": "logged",
            "at": 1.0,
            "level": "error",
            "who": "parent",
            "text": "worker 0 (pid 7) exited with code 1",
        },
    ]
    answer = {"events": [{"ev": "notice", "notice": each} for each in told], "ok": True, "result": {}}
    run(tmp_path, "events", answer)
    assert [line[10:] for line in capsys.readouterr().out.splitlines()] == [
        "worker 0 is ready, pid 7",
        "control: reloading",
        "error: worker 0 (pid 7) exited with code 1",
    ]
    run(tmp_path, "events --json", answer)
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_reload_streams_steps_and_says_how_it_ended(tmp_path: Path, capsys: Capture) -> None:
    """The steps as they come, the outcome last."""
    steps = [{"ev": "step", "at": 1.0, "number": 4, "stage": "import", "text": "the app is imported"}]
    code, _ = run(tmp_path, "reload", {"events": steps, "ok": True, "result": {"text": "generation 4 serves"}})
    assert code == ControlExit.DONE
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("reload, import: the app is imported") and said[1] == "generation 4 serves"


@pytest.mark.parametrize("name", ["reload", "upgrade"])
def test_failed_reload_leaves_with_its_own_code_and_the_boot_log(tmp_path: Path, capsys: Capture, name: str) -> None:
    """The log first, the error last: it is what one sees."""
    code, _ = run(tmp_path, name, {"ok": False, "error": "it did not boot", "detail": "NameError: x"})
    said = capsys.readouterr()
    assert code == ControlExit.RELOAD_FAILED
    assert said.err == "NameError: x\nhybrid-ctl: error: it did not boot\n" and not said.out


def test_failed_reload_as_json_is_one_more_line(tmp_path: Path, capsys: Capture) -> None:
    """Who reads line by line reads to the end."""
    steps: list[dict[str, Any]] = [{"ev": "step", "stage": "import", "text": "importing the app"}]
    run(tmp_path, "reload --json", {"events": steps, "ok": False, "error": "it did not boot", "detail": "NameError: x"})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["stage"] == "import" and lines[1:] == [
        {"ok": False, "error": "it did not boot", "detail": "NameError: x"}
    ]


def test_refusal_leaves_with_1(tmp_path: Path, capsys: Capture) -> None:
    """In the words of the server."""
    assert run(tmp_path, "park 9", {"ok": False, "error": "there is no slot 9"})[0] == ControlExit.REFUSED
    assert capsys.readouterr().err == "hybrid-ctl: error: there is no slot 9\n"


def test_refusal_as_json_is_on_stdout(tmp_path: Path, capsys: Capture) -> None:
    """A script reads one stream."""
    code, _ = run(tmp_path, "park 9 --json", {"ok": False, "error": "there is no slot 9"})
    said = capsys.readouterr()
    assert code == ControlExit.REFUSED and not said.err
    assert json.loads(said.out) == {"ok": False, "error": "there is no slot 9", "detail": ""}


def test_wrong_line_leaves_with_2(capsys: Capture) -> None:
    """Nobody is asked."""
    assert main(["scale", "x"]) == ControlExit.USAGE
    assert "'x'" in capsys.readouterr().err


def test_no_server_leaves_with_3(tmp_path: Path, capsys: Capture) -> None:
    """As does one that hangs up."""
    assert main(["status", "--control", str(tmp_path / "gone")]) == ControlExit.UNREACHED
    assert run(tmp_path, "status", {})[0] == ControlExit.UNREACHED
    assert "cannot connect" in capsys.readouterr().err


def test_done_says_what_was_done(tmp_path: Path, capsys: Capture) -> None:
    """In the words of the server, if it has any."""
    run(tmp_path, "scale 5", {"ok": True, "result": {"text": "5 workers"}})
    run(tmp_path, "scale 5", {"ok": True, "result": {}})
    assert capsys.readouterr().out == "5 workers\ndone\n"


def test_stacks_and_settings_are_shown(tmp_path: Path, capsys: Capture) -> None:
    """The text as it is; the settings a line each."""
    run(tmp_path, "dump 0", {"ok": True, "result": {"text": "ok", "slot": 0, "stacks": "Thread main\n  a.py:1\n"}})
    assert capsys.readouterr().out == "Thread main\n  a.py:1\n"
    settings = {"bind": {"bind": ["127.0.0.1:8000"], "host": ""}, "app": {"factory": False}}
    run(tmp_path, "config", {"ok": True, "result": {"settings": settings}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [["bind.bind", "127.0.0.1:8000"], ["bind.host", "–"], ["app.factory", "false"]]


def test_terminal_is_not_steered_by_what_is_shown(tmp_path: Path, capsys: Capture) -> None:
    """An escape in a name, a stack or an event is shown as what it is not: a character."""
    hostile = "\x1b]0;mine\x07 \x9b2J"
    run(tmp_path, "status", {"ok": True, "result": snapshot(app=hostile)})
    run(tmp_path, "dump 0", {"ok": True, "result": {"stacks": hostile}})
    run(tmp_path, "reload", {"ok": False, "error": hostile, "detail": hostile})
    event = {"ev": "notice", "notice": {"notice": "logged", "at": 1.0, "level": "info", "who": "x", "text": hostile}}
    run(tmp_path, "events", {"events": [event], "ok": True, "result": {}})
    said = "".join(capsys.readouterr())
    assert said.count("mine") == 5 and not set(said) & {"\x1b", "\x07", "\x9b"}


def test_event_of_a_newer_server_is_shown_with_its_fields(tmp_path: Path, capsys: Capture) -> None:
    """A kind that is not known, and one whose fields have changed."""
    strange = [{"notice": "eclipse", "at": 1.0, "depth": 3}, {"notice": "worker_ready", "at": 1.0, "place": 3}]
    events = [{"ev": "notice", "notice": each} for each in strange]
    run(tmp_path, "events", {"events": events, "ok": True, "result": {}})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[2] for line in lines] == ["eclipse: depth 3", "worker_ready: place 3"]


def test_answer_is_waited_for_as_long_as_timeout_says(tmp_path: Path, capsys: Capture) -> None:
    """Of what takes long as well, which is waited for for ever without it."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s.sock"))
        silent.listen()
        for name in ("status", "reload"):
            code = main([name, "--timeout", "0.05", "--control", str(tmp_path / "s.sock")])
            assert code == ControlExit.UNREACHED
            assert "within 0.05 s" in capsys.readouterr().err


def test_top_says_how_to_install_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """The pip line."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert main(["top"]) == ControlExit.USAGE
    assert "pip install 'hybrid[top]'" in capsys.readouterr().err


def test_top_needs_a_terminal(capsys: Capture) -> None:
    """Where there is none it says what to use instead."""
    pytest.importorskip("textual")
    assert main(["top"]) == ControlExit.USAGE
    assert "no terminal" in capsys.readouterr().err
