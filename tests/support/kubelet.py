"""Kubernetes, played for one pod: a kubelet that probes, stops and kills; a network that follows with a lag; clients.

What it does is in the manifest of ``examples/kubernetes``: command line, environment, probes. Only the numbers are
smaller, and the ready file is elsewhere.

Source: Kubernetes, "Pod Lifecycle" (Termination of Pods), "Probes".
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.eventually import eventually
from tests.support.http_clients import ByHand, Crowd, Cut
from tests.support.server import ROOT, Server

EXAMPLES = ROOT / "examples" / "kubernetes"
PERIOD_S = 0.05
"""Between two looks of the kubelet."""


@dataclass(frozen=True)
class Manifest:
    """What a deployment says, as far as a kubelet needs it."""

    deployment: dict[str, Any]

    @classmethod
    def read(cls) -> Manifest:
        """Return the example's."""
        return cls(yaml.safe_load((EXAMPLES / "deployment.yaml").read_text(encoding="utf-8")))

    @property
    def pod(self) -> dict[str, Any]:
        pod: dict[str, Any] = self.deployment["spec"]["template"]["spec"]
        return pod

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.pod["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def grace_s(self) -> int:
        return int(self.pod["terminationGracePeriodSeconds"])

    @property
    def environment(self) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.container["env"]}

    def option(self, flag: str) -> str:
        """Return what the command line says for ``flag``."""
        (value,) = (each.partition("=")[2] for each in self.container["args"] if each.startswith(f"{flag}="))
        return str(value)

    def arguments(self, **options: str) -> list[str]:
        """Return the command line with some options changed, without the target."""
        changed = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        pairs = (each.partition("=") for each in self.container["args"][1:])
        return [f"{flag}={changed.pop(flag, value)}" for flag, _, value in pairs] + [
            f"{flag}={value}" for flag, value in changed.items()
        ]

    def probe(self, kind: str, ready_file: Path) -> list[str]:
        """Return the command of the probe ``kind``, for a ready file at another place."""
        declared = self.option("--ready-file")
        places = {declared: str(ready_file), str(Path(declared).parent): str(ready_file.parent)}
        return [places.get(word, word) for word in self.container[kind]["exec"]["command"]]


class Pod:
    """A server, and how the cluster treats it. Closes: nothing; the server is the test's."""

    def __init__(self, server: Server, manifest: Manifest, ready_file: Path, lag_s: float) -> None:
        """``lag_s``: from the moment it is known that a pod is not to get new clients to the end of the last one."""
        self.server = server
        self.ready_file = ready_file
        self._manifest = manifest
        self._lag_s = lag_s
        self._is_listed = threading.Event()
        self._unlisted_at = float("inf")
        self._over = threading.Event()

    # ── the kubelet ──

    def probe(self, kind: str) -> bool:
        """Run a probe, as in the container."""
        return not subprocess.call(self._manifest.probe(kind, self.ready_file), stderr=subprocess.DEVNULL)

    @contextmanager
    def watched(self) -> Iterator[Pod]:
        """Be probed for the length of a block; it begins when the pod is ready and in the list of the service."""
        eventually(lambda: self.probe("startupProbe"))
        kubelet = threading.Thread(target=self._watch, name="kubelet")
        kubelet.start()
        try:
            assert self._is_listed.wait(20)
            yield self
        finally:
            self._over.set()
            kubelet.join(20)

    def _watch(self) -> None:
        while not self._over.wait(PERIOD_S):
            if self.probe("readinessProbe"):
                self._is_listed.set()
            elif self._is_listed.is_set():
                self._unlist()
                return

    def delete(self) -> None:
        """Begin the end: SIGTERM now; the network hears of it now, too, and follows when it can."""
        self._unlist()
        self.server.signal(signal.SIGTERM)

    def wait_end(self, grace_s: float) -> int | None:
        """Return the exit code; None: it was still there when the grace was over, and was killed."""
        try:
            return self.server.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.server.process.kill()
            return None

    # ── the network ──

    def _unlist(self) -> None:
        self._unlisted_at = min(self._unlisted_at, time.monotonic() + self._lag_s)

    def is_listed(self) -> bool:
        """Whether a client that comes now is sent here."""
        return self._is_listed.is_set() and time.monotonic() < self._unlisted_at

    @contextmanager
    def clients(self, count: int = 4) -> Iterator[Clients]:
        """Send clients here while the pod is listed, for the length of a block."""
        people = Clients(self.server, pod=self)
        with people.busy(count):
            yield people


@dataclass
class Clients(Crowd):
    """Clients that the network sends to a pod: half of them ask once and leave, half keep their connection."""

    pod: Pod | None = None
    _turns: Iterator[int] = field(default_factory=itertools.count)

    def work(self) -> None:
        """Come as long as the network sends us here. Runs in: a thread."""
        assert self.pod is not None
        is_kept = next(self._turns) % 2
        while not self._over.is_set() and self.pod.is_listed():
            try:
                client = self.server.connect()
            except OSError:
                with self._lock:
                    self.refused += 1
                return
            with ByHand(client) as connection:
                if is_kept:
                    self._ask(connection)
                else:
                    self._ask_once(connection)

    def _ask_once(self, connection: ByHand) -> None:
        try:
            pid = int(connection.get("/pid").body)
        except (Cut, OSError) as error:
            with self._lock:
                self.lost.append((0, repr(error)))
        else:
            with self._lock:
                self.served[pid] = self.served.get(pid, 0) + 1

    @property
    def failed(self) -> list[object]:
        """What was lost, in whatever way."""
        return [*self.lost, *["refused"] * self.refused, *["never accepted"] * self.unaccepted]


def arguments_for(manifest: Manifest, ready_file: Path, **options: str) -> Sequence[str]:
    """Return the manifest's command line for a server on this machine."""
    metrics = "" if options.get("workers") == "0" else "127.0.0.1:0"  # no pool, nobody who answers
    here = {"bind": "127.0.0.1:0", "metrics_bind": metrics, "log_format": "text", "ready_file": str(ready_file)}
    return manifest.arguments(**{**here, **options})
