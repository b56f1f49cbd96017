"""The app's own metrics, merged from files that processes have left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from hybrid.control import app_metrics
from hybrid.control.app_metrics import AppMetrics

COUNTING = """
import os, sys
from prometheus_client import Counter, Gauge, Histogram, Summary
amount = float(sys.argv[1])
Counter("things", "t", ["kind"]).labels("a").inc(amount)
histogram = Histogram("took_seconds", "t", buckets=(1, 10))
histogram.observe(amount)
Summary("size_bytes", "t").observe(amount)
for mode in ("all", "liveall", "sum", "livesum", "min", "max", "mostrecent"):
    gauge = Gauge(f"gauge_{mode}", "t", multiprocess_mode=mode)
    gauge.set_to_current_time() if mode == "time" else gauge.set(amount)
if len(sys.argv) > 2:
    print("counted", flush=True)
    sys.stdin.read()
os._exit(0)
"""
"""A process of an app, which counts so many, and is then gone; or stays, until its stdin ends."""


def counted(folder: Path, amount: float) -> None:
    """Have a process count, and be gone."""
    subprocess.run([sys.executable, "-c", COUNTING, str(amount)], env=environ(folder), check=True, timeout=30)


def environ(folder: Path) -> dict[str, str]:
    """Return the environment of such a process."""
    return {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}


def values(metrics: AppMetrics) -> dict[str, float]:
    """Return every sample, without the labels that say of which process it is."""
    families: list[Metric] = list(metrics.families())
    return {
        each.name + "".join(f" {key}={value}" for key, value in each.labels.items() if key != "pid"): each.value
        for family in families
        for each in family.samples
    }


def names(folder: Path) -> set[str]:
    """Return what is in the folder."""
    return {path.name for path in folder.iterdir()}


EXPECTED = {
    "things_total kind=a": 7.0,
    "took_seconds_bucket le=1.0": 0.0,
    "took_seconds_bucket le=10.0": 2.0,
    "took_seconds_bucket le=+Inf": 2.0,
    "took_seconds_count": 2.0,
    "took_seconds_sum": 7.0,
    "size_bytes_count": 2.0,
    "size_bytes_sum": 7.0,
    "gauge_sum": 7.0,
    "gauge_min": 3.0,
    "gauge_max": 4.0,
}


def test_processes_that_are_gone_count_on(tmp_path: Path) -> None:
    """Before they are added up, and after; again and again; nothing of them is left but one file of each kind."""
    metrics = AppMetrics(tmp_path, is_ours=True)
    counted(tmp_path, 3)
    counted(tmp_path, 4)
    assert EXPECTED.items() <= values(metrics).items()
    metrics.compact()
    found = values(metrics)
    assert EXPECTED.items() <= found.items()
    assert not [name for name in found if "live" in name or name.startswith("gauge_all")]
    assert names(tmp_path) == {f"{kind}_0.db" for kind in app_metrics.KEPT}
    counted(tmp_path, 5)
    metrics.compact()
    found = values(metrics)
    assert (found["things_total kind=a"], found["gauge_min"], found["gauge_max"]) == (12, 3, 5)
    assert len(names(tmp_path)) == len(app_metrics.KEPT)


def test_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    """Its gauges are shown, and its files are its own."""
    metrics = AppMetrics(tmp_path, is_ours=True)
    counted(tmp_path, 3)
    command = [sys.executable, "-c", COUNTING, "4", "stay"]
    with subprocess.Popen(command, env=environ(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        metrics.compact()
        found = values(metrics)
        assert f"counter_{process.pid}.db" in names(tmp_path)
        process.stdin.close()
    assert EXPECTED.items() <= found.items()
    assert (found["gauge_all"], found["gauge_liveall"], found["gauge_livesum"]) == (4, 4, 4)


class Killed(BaseException):
    """Stands in for the end of control."""


@pytest.mark.parametrize("step", range(60))
def test_control_may_be_killed_at_any_step(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever file was the last to be renamed or removed: its successor counts nothing twice, and loses nothing."""
    counted_once = _three_processes(tmp_path)
    left = step

    def killed_before(name: str) -> None:
        """Have a call of Path's that changes the folder be the last one."""
        real = getattr(Path, name)

        def call(path: Path, *arguments: object, **named: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(path, *arguments, **named)

        monkeypatch.setattr(Path, name, call)

    killed_before("rename")
    killed_before("unlink")
    try:
        AppMetrics(tmp_path, is_ours=True).compact()
    except Killed:
        pass
    monkeypatch.undo()
    successor = AppMetrics(tmp_path, is_ours=True)
    assert counted_once.items() <= values(successor).items()
    successor.compact()
    assert counted_once.items() <= values(successor).items()
    assert names(tmp_path) == {f"{kind}_0.db" for kind in app_metrics.KEPT}


_MADE: dict[str, bytes] = {}


def _three_processes(folder: Path) -> dict[str, float]:
    """Fill the folder with what processes have left, one of which was added up; made once, it takes a second."""
    if not _MADE:
        metrics = AppMetrics(folder, is_ours=True)
        counted(folder, 3)
        metrics.compact()
        counted(folder, 4)
        counted(folder, 4)
        _MADE.update({path.name: path.read_bytes() for path in folder.iterdir()})
    for name, content in _MADE.items():
        (folder / name).write_bytes(content)
    return {"things_total kind=a": 11.0, "took_seconds_count": 3.0, "gauge_sum": 11.0, "gauge_min": 3.0}


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x40\0\0\0" + b"\x7f" * 60])
def test_a_file_that_is_garbage_costs_its_own_figures_only(tmp_path: Path, content: bytes) -> None:
    """A process can leave anything in it; the others are shown."""
    counted(tmp_path, 3)
    counted(tmp_path, 4)
    (tmp_path / f"counter_{os.getpid()}.db").write_bytes(content)
    (tmp_path / "counter_999999999.db").write_bytes(content)
    metrics = AppMetrics(tmp_path, is_ours=True)
    assert EXPECTED.items() <= values(metrics).items()
    metrics.compact()
    assert EXPECTED.items() <= values(metrics).items()


def test_a_folder_that_is_gone_has_no_metrics(tmp_path: Path) -> None:
    """The server ends, and somebody asks at this moment."""
    metrics = AppMetrics(tmp_path / "gone", is_ours=True)
    metrics.compact()
    assert list(metrics.families()) == []


@pytest.mark.parametrize(
    ("name", "is_ours"), [("hybrid-metrics-7-abc", True), ("hybrid-metrics-70-abc", False), ("a", False)]
)
async def test_a_folder_that_the_user_named_is_only_read(
    tmp_path: Path, name: str, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it is merged; who cleans it up is the user's business."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / name))
    found = AppMetrics.from_environment(7)
    assert found is not None
    if not is_ours:
        await found.tidy()  # returns: there is nothing to do


def test_without_a_folder_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has named one."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert AppMetrics.from_environment(7) is None
