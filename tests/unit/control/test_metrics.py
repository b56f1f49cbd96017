"""What /metrics says, read by the parsers that Prometheus' own library has."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client import parser
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.openmetrics import parser as openmetrics_parser

from hybrid.control import metric_table, metrics
from hybrid.control.sampler import Sampler
from hybrid.control.web import Request
from hybrid.ground.states import Life
from hybrid.shared.scoreboard import Cell
from tests.support.control_state import FakeState, fake_state


async def text_of(state: FakeState, accept: str = "", apps: list[Metric] | None = None) -> tuple[str, str]:
    """Return the text, and what it says that it is."""
    found = metrics.routes(state, Sampler(state.scoreboard, memory=lambda _: 5000), (lambda: apps) if apps else None)
    answer = await found["/metrics"](Request("/metrics", headers={"accept": accept}))
    assert isinstance(answer.body, bytes)
    return answer.body.decode(), answer.content_type


async def values(state: FakeState) -> dict[str, float]:
    """Return every sample as the text has it."""
    text, _ = await text_of(state)
    return {
        each.name + "".join(f" {name}={value}" for name, value in each.labels.items()): each.value
        for family in parser.text_string_to_metric_families(text)
        for each in family.samples
    }


def busy(state: FakeState, slot: int = 0) -> None:
    """Have a worker that has done something."""
    row = state.worker(slot)
    row[Cell.ACCEPTED], row[Cell.CLOSED], row[Cell.REQUESTS], row[Cell.IN_FLIGHT] = 10, 7, 40, 2
    row[Cell.ACTIVE], row[Cell.LIMIT] = 3, 1000
    row.store_line(Cell.MEASURED_NS, (1, 2_000_000_000, 1_000_000_000, 500_000_000, 10_000_000, 4_000_000, 6, 128))
    row[Cell.LATENCY_NS] = 3_000_000_000
    row[Cell.LATENCIES + 3], row[Cell.LATENCIES + 20], row[Cell.LATENCIES + 40] = 1, 5, 2


async def test_figures_of_a_worker_and_of_all() -> None:
    """The one is labelled by slot, the other is the sum."""
    with fake_state() as state:
        busy(state, 0)
        busy(state, 2)
        found = await values(state)
    for name, each in (
        ("requests_total", 40),
        ("connections_accepted_total", 10),
        ("connections_open", 3),
        ("requests_in_flight", 2),
        ("loop_busy_seconds_total", 2),
        ("loop_run_queue_seconds_total", 0.5),
        ("memory_private_bytes", 5000),
    ):
        assert found[f"hybrid_worker_{name} slot=0"] == found[f"hybrid_worker_{name} slot=2"] == pytest.approx(each)
        assert found[f"hybrid_{name}"] == pytest.approx(2 * each)
    assert "hybrid_worker_requests_total slot=1" in found  # a slot that was skipped: it is there, and has none
    assert found["hybrid_workers life=ready"] == 2
    assert found["hybrid_accept_queue_connections"] == 6
    assert found["hybrid_pool_target_workers"] == 2
    assert found["hybrid_ready"] == 1
    assert found["hybrid_worker_info generation=1 life=ready pid=4000002 seat=2 slot=2"] == 1


async def test_durations_are_a_histogram() -> None:
    """Its buckets add up, the first has all that is less, and +Inf has all."""
    with fake_state() as state:
        busy(state)
        found = await values(state)
    name = "hybrid_request_duration_seconds"
    buckets = {key: value for key, value in found.items() if key.startswith(f"{name}_bucket")}
    assert buckets[f"{name}_bucket le=6.5536e-05"] == 1
    assert buckets[f"{name}_bucket le=0.001048576"] == 6
    assert buckets[f"{name}_bucket le=68.719476736"] == 6
    assert buckets[f"{name}_bucket le=+Inf"] == found[f"{name}_count"] == 8
    assert found[f"{name}_sum"] == 3
    assert list(buckets.values()) == sorted(buckets.values())


async def test_a_worker_that_is_replaced_takes_nothing_back() -> None:
    """Neither of its slot nor of all; the one that is new adds to it."""
    with fake_state() as state:
        busy(state)
        before = await values(state)
        state.scoreboard.replaced = (0, 0, 0, 1, 0)
        state.worker(0, Life.STARTING)[Cell.REQUESTS] = 2
        after = await values(state)
    counters = [key for key in before if re.match(r"\w+_(total|count|sum|bucket)\b", key)]
    assert len(counters) > 30
    assert all(after[key] >= before[key] for key in counters)
    assert after["hybrid_requests_total"] == 42
    assert after["hybrid_workers_replaced_total cause=died"] == 1


async def test_what_is_not_known_is_missing() -> None:
    """A worker that has measured nothing has no loop use, which zero would be."""
    with fake_state() as state:
        state.worker(0)
        found = await values(state)
    assert not [key for key in found if "loop_busy" in key or "accept_queue" in key or "balance" in key]


async def test_load_and_spare_are_those_of_the_agent() -> None:
    """One formula. Without a worker that accepts the load is unknown: an autoscaler must not take a boot for a load."""
    with fake_state() as state:
        busy(state)
        state.scoreboard.row(0)[Cell.ACCEPT_QUEUE] = 0
        found = await values(state)
        assert found["hybrid_load_ratio"] == pytest.approx(0.003)
        assert found["hybrid_spare_ratio"] == pytest.approx((1 - 0.003) / 2)  # one of two
        state.scoreboard.row(0)[Cell.LIFE] = Life.STARTING
        found = await values(state)
    assert "hybrid_load_ratio" not in found
    assert found["hybrid_spare_ratio"] == 0


async def test_a_scraper_has_the_format_that_it_asks_for() -> None:
    """OpenMetrics by its name, else the text of old; each is read by its own parser."""
    with fake_state() as state:
        busy(state)
        text, content_type = await text_of(state, "application/openmetrics-text; version=1.0.0")
        assert content_type.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
        read: Any = openmetrics_parser.text_string_to_metric_families  # it has no types
        names = {family.name for family in read(text)}
        text, content_type = await text_of(state, "text/plain")
        assert content_type.startswith("text/plain")
        assert {family.name for family in parser.text_string_to_metric_families(text)} >= names - {
            "hybrid_build",
            "hybrid_worker",
        }  # infos have no kind of their own there


@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
async def test_who_asks_for_a_version_that_is_none_gets_the_default(kind: str) -> None:
    """Not a 500, with a traceback in the log for each time that he asks."""
    with fake_state() as state:
        _, content_type = await text_of(state, f"{kind}; version=abc")
        assert content_type.startswith("text/plain; version=")


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 3 asks for."""


@pytest.mark.parametrize("accept", [PROMETHEUS, "*/*", "text/html", "application/json;q=x", "\x80,;;"])
async def test_any_accept_has_an_answer(accept: str) -> None:
    """Also one that makes no sense: what is answered says what it is."""
    with fake_state() as state:
        busy(state)
        text, content_type = await text_of(state, accept)
    assert "hybrid_requests_total 40.0" in text
    assert content_type.startswith("application/openmetrics-text" if accept is PROMETHEUS else "text/plain")


async def test_every_family_of_the_table_is_in_the_text_and_no_other() -> None:
    """The reference page is made of the table."""
    with fake_state() as state:
        busy(state)
        busy(state, 1)
        collector = metrics.Collector(state, Sampler(state.scoreboard, memory=lambda _: 1))
        found = [(family.name, family.type, family.documentation) for family in collector.collect()]
    told = [(spec.name, spec.kind, spec.meaning) for spec in metric_table.every_spec()]
    assert sorted(found) == sorted(told)
    assert len({name for name, _, _ in told}) == len(told)


async def test_apps_metrics_follow_and_a_name_of_ours_stays_ours() -> None:
    """A name twice would make all of the text invalid."""
    own, doubled = CounterMetricFamily("app_things", "of the app"), CounterMetricFamily("hybrid_requests", "of the app")
    own.add_metric([], 3)
    doubled.add_metric([], 99)
    with fake_state() as state:
        busy(state)
        text, _ = await text_of(state, apps=[own, doubled])
    assert "app_things_total 3.0" in text
    assert "99.0" not in text


async def test_garbage_in_the_scoreboard_is_no_figure() -> None:
    """Whatever a worker has written, the text can be read."""
    with fake_state() as state:
        row = state.worker(0)
        for cell in range(8, len(row.cells)):
            row[cell] = (1 << 64) - 2
        found: dict[str, Any] = await values(state)
    assert found["hybrid_requests_total"] == 0
