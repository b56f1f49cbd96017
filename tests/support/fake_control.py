"""A server's control socket without a server: canned answers, and what was asked for. And snapshots to show."""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = Mapping[str, Any]
"""``{"ok": True, "result": …}`` or ``{"ok": False, "error": …}``; ``"events"``: what comes before it."""

GREW = "3 → 4 workers (demand): 1.9 loops busy"
GROWS = "4 → 5 workers (queue): 3.4 loops busy, 0.4 for 12 queued; lag 12 ms"


def worker(slot: int, **changed: Any) -> dict[str, Any]:
    """Return a worker's row of a snapshot."""
    row = {
        "slot": slot, "seat": slot, "pid": 41000 + slot, "life": "ready", "generation": 3, "age_s": 7500.0 + slot,
        "connections": 31 + slot, "limit": 1000, "accepted": 120_400 + slot, "requests": 910_233 + slot, "errors": 0,
        "pauses": 0, "accepted_per_s": 12.4, "requests_per_s": 311.0 + slot, "errors_per_s": 0.0, "loop_use": 0.42,
        "run_queue": 0.01, "lag_s": 0.0008, "lag_max_s": 0.02, "memory_bytes": 48_300_000, "heartbeat_age_s": 0.1,
    }  # fmt: skip
    return {**row, **changed}


def snapshot(workers: Sequence[Mapping[str, Any]] | None = None, **pool: Any) -> dict[str, Any]:
    """Return a snapshot; ``pool``: what is different there."""
    rows = [worker(slot) for slot in range(4)] if workers is None else list(workers)
    ready = [row for row in rows if row["life"] == "ready"]
    uses = [row["loop_use"] for row in ready if row["loop_use"] is not None]
    return {
        "version": "0.1.0", "now": 1_790_000_000.0, "parent": {"pid": 40990, "uptime_s": 11520.0},
        "pool": {
            "phase": "running", "readiness": "ready", "stance": "accepting", "generation": 3, "target": 4, "least": 2,
            "most": 8, "standby": 1, "size_reason": GREW, "app": "shop.api:app", "kind": "ASGI application",
            "addresses": ["0.0.0.0:8000"], "reload": {"stage": "idle", "source": "", "failure": ""}, **pool,
        },
        "totals": {
            "workers": len(rows), "ready": len(ready), "connections": sum(row["connections"] for row in rows),
            "accepted_per_s": 49.6, "requests_per_s": sum(row["requests_per_s"] or 0 for row in rows),
            "errors_per_s": 0.0, "loop_use": sum(uses) / len(uses) if uses else None, "run_queue": 0.01,
            "lag_s": max((row["lag_s"] or 0 for row in ready), default=None),
            "memory_bytes": sum(row["memory_bytes"] or 0 for row in rows), "accept_queue": 0,
            "accept_queue_limit": 4096, "accept_wait_s": 0.0, "balance": 0.99,
            "replaced": {"requests": 0, "lifetime": 0, "memory": 2, "died": 1, "told": 0},
        },
        "workers": rows,
        "sizing": {"on": True, "last": None},
    }  # fmt: skip


BUSY_ROWS = (
    worker(0, loop_use=0.97, lag_s=0.21, connections=214, requests_per_s=1312.0, memory_bytes=61_000_000),
    worker(1, loop_use=0.81, lag_s=0.012, connections=201, requests_per_s=1248.4),
    worker(2, loop_use=None, heartbeat_age_s=4.2, lag_s=None, connections=187, requests_per_s=0.0),
    worker(3, loop_use=0.55, connections=160, requests_per_s=901.0, age_s=180.0),
    worker(4, life="starting", pid=0, connections=0, loop_use=None, lag_s=None, requests_per_s=None,
           accepted_per_s=None, memory_bytes=None, age_s=0.4, requests=0, accepted=0),
    worker(5, life="parked", loop_use=0.0, connections=3, requests_per_s=0.0, age_s=86400.0 * 3),
    worker(6, life="draining", generation=2, loop_use=0.04, connections=17, requests_per_s=2.5, errors=12),
)  # fmt: skip
"""Workers in every state worth a colour."""


def past(steps: int = 90) -> Iterator[dict[str, Any]]:
    """Yield snapshots of a load that comes in waves, ending in a busy pool."""
    for step in range(steps):
        wave = 0.5 + 0.45 * math.sin(step / 9.0) + 0.05 * math.sin(step * 1.7)
        rows = [worker(slot, loop_use=wave, requests_per_s=1300 * wave) for slot in range(4)]
        found = snapshot(rows)
        found["totals"].update(
            requests_per_s=5200 * wave, connections=round(300 + 500 * wave), accept_queue=max(0, round(60 * wave - 44))
        )
        yield found
    last = snapshot(
        BUSY_ROWS, target=5, size_reason="4 → 5 workers (queue): 3.4 loops busy, 0.4 for 12 queued; lag 12 ms"
    )
    last["totals"].update(accept_queue=12, accept_wait_s=0.14, balance=0.93, errors_per_s=0.4, run_queue=0.07)
    yield last


NOTICES: tuple[dict[str, Any], ...] = (
    {"notice": "phase_changed", "phase": "running"},
    {"notice": "reload_step", "stage": "booting", "text": "4 workers of generation 3 start"},
    {"notice": "reload_ended", "ok": True, "text": "generation 3 serves"},
    {"notice": "worker_exited", "slot": 1, "pid": 40411, "cause": "memory", "text": "212 MB of its own"},
    {"notice": "worker_ready", "slot": 1, "pid": 41001},
    {"notice": "logged", "level": "warning", "who": "worker 2", "text": "its loop has stood still for 4.2 s"},
    {"notice": "resized", "before": 4, "target": 5, "reason": GROWS,
     "inputs": {"busy": 3.4, "queue": 12.0}},
    {"notice": "worker_started", "slot": 4, "seat": 4, "generation": 3},
)  # fmt: skip


def notices() -> list[dict[str, Any]]:
    """Return :data:`NOTICES` with their numbers and times."""
    return [{"at": 1_790_000_000.0 + 7 * n, "number": n + 1, **each} for n, each in enumerate(NOTICES)]


class FakeControl:
    """A control socket at ``path`` with canned answers. ``asked``: what came, as (op, args)."""

    def __init__(self, path: Path, answers: Mapping[str, Answer]) -> None:
        self.path = str(path)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(8)
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        try:
            with client, client.makefile("rwb") as stream:
                for line in stream:
                    question = json.loads(line)
                    self.asked.append((question["op"], question["args"]))
                    answer = dict(self._answers.get(question["op"], {"ok": False, "error": "unknown op"}))
                    for event in answer.pop("events", ()):
                        stream.write(json.dumps({"id": question["id"], **event}).encode() + b"\n")
                    if "raw" in answer:
                        stream.write(answer["raw"])
                    elif "ok" in answer:
                        stream.write(json.dumps({"id": question["id"], **answer}).encode() + b"\n")
                    else:
                        break  # it hangs up instead of answering
                    stream.flush()
        except OSError:
            pass

    def close(self) -> None:
        """Stop, and leave no file behind. May be called twice."""
        for each in (self._listener, *self._clients):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._listener.close()
        self._thread.join(5)
        Path(self.path).unlink(missing_ok=True)


@contextmanager
def control(path: Path, **answers: Answer) -> Iterator[FakeControl]:
    """Listen at ``path`` for the length of a block; a ``_`` in a name stands for a hyphen."""
    fake = FakeControl(path, {name.replace("_", "-"): answer for name, answer in answers.items()})
    try:
        yield fake
    finally:
        fake.close()
