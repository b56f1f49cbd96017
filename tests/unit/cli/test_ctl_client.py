"""The client's end of a control socket, against a socket with canned answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybrid.cli.ctl_client import ControlClient, Refused, Unreached
from tests.support.fake_control import control


def test_result_is_returned(tmp_path: Path) -> None:
    """One question after the other on one connection."""
    with control(tmp_path / "s", status={"ok": True, "result": {"a": 1}}) as fake, ControlClient(fake.path) as client:
        assert client.ask("status", {}) == {"a": 1}
        assert client.ask("status", {"b": 2}) == {"a": 1}
        assert fake.asked == [("status", {}), ("status", {"b": 2})]


def test_events_come_before_the_result(tmp_path: Path) -> None:
    """In order."""
    steps = [{"ev": "step", "stage": name} for name in ("resolve", "import", "canary")]
    answer = {"events": steps, "ok": True, "result": {"text": "done"}}
    with control(tmp_path / "s", reload=answer) as fake, ControlClient(fake.path) as client:
        conversation = client.exchange("reload", {})
        assert [event["stage"] for event in (next(conversation) for _ in steps)] == ["resolve", "import", "canary"]
        with pytest.raises(StopIteration) as end:
            next(conversation)
        assert end.value.value == {"text": "done"}


def test_refusal_has_words_and_detail(tmp_path: Path) -> None:
    """Those of the server."""
    answer = {"ok": False, "error": "it cannot be imported", "detail": "Traceback …"}
    with control(tmp_path / "s", reload=answer) as fake, ControlClient(fake.path) as client:
        with pytest.raises(Refused, match="it cannot be imported") as caught:
            client.ask("reload", {})
        assert caught.value.detail == "Traceback …"


def test_server_that_hangs_up_is_unreached(tmp_path: Path) -> None:
    """It may be going down."""
    with (
        control(tmp_path / "s", status={}) as fake,
        ControlClient(fake.path) as client,
        pytest.raises(Unreached, match="closed the connection"),
    ):
        client.ask("status", {})


def test_server_that_does_not_answer_is_unreached_in_the_end(tmp_path: Path) -> None:
    """After the time that was given, which the message names."""
    with (
        control(tmp_path / "s", status={"raw": b""}) as fake,
        ControlClient(fake.path, 0.05) as client,
        pytest.raises(Unreached, match=r"within 0\.05 s"),
    ):
        client.ask("status", {})


@pytest.mark.parametrize("raw", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"[]\n", b"\xff\n"])
def test_what_does_not_speak_the_protocol_is_unreached(tmp_path: Path, raw: bytes) -> None:
    """And the message says where to look."""
    with (
        control(tmp_path / "s", status={"raw": raw}) as fake,
        ControlClient(fake.path) as client,
        pytest.raises(Unreached, match="control protocol"),
    ):
        client.ask("status", {})


def test_answers_to_others_are_passed_over(tmp_path: Path) -> None:
    """Only the own id counts, or none: a line that could not be read."""
    other = json.dumps({"id": 99, "ok": False, "error": "not yours"}).encode() + b"\n"
    ours = json.dumps({"id": None, "ok": False, "error": "no JSON"}).encode() + b"\n"
    with (
        control(tmp_path / "s", status={"raw": other + ours}) as fake,
        ControlClient(fake.path) as client,
        pytest.raises(Refused, match="no JSON"),
    ):
        client.ask("status", {})


def test_missing_socket_is_named(tmp_path: Path) -> None:
    """With what may be the reason."""
    with pytest.raises(Unreached, match=r"cannot connect to .*gone: no such file.*--control off"):
        ControlClient(str(tmp_path / "gone"))


def test_dead_socket_is_named(tmp_path: Path) -> None:
    """The file is there, and nobody behind it."""
    import socket

    path = str(tmp_path / "dead")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(Unreached, match="connection refused"):
        ControlClient(path)


def test_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    """It is no traceback."""
    with pytest.raises(Unreached, match="cannot connect"):
        ControlClient(str(tmp_path / ("x" * 200)))
