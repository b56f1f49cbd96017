"""``/metrics``: what the scoreboard and the parent tell, in the text that Prometheus reads.

The text is prometheus_client's; so are its two formats, of which the scraper says which it wants. What is in it stands
in :mod:`hybrid.control.metric_table`. Below it come the app's own metrics (:mod:`hybrid.control.app_metrics`).

Source: Prometheus exposition formats; OpenMetrics 1.0; docs/decisions/0017-prometheus-client.md.
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from hybrid import __version__
from hybrid.control import counters, health
from hybrid.control import metric_table as table
from hybrid.control.capacity import capacity
from hybrid.control.metric_table import CounterSpec, GaugeSpec, Spec
from hybrid.control.queues import own_queues
from hybrid.control.sampler import SECOND, Sampler, WorkerSample
from hybrid.control.snapshot import totals
from hybrid.control.web import Answer, Request, Routes
from hybrid.ground.clock import monotonic_ns, wall
from hybrid.ground.states import Life
from hybrid.shared.scoreboard import BUCKETS
from hybrid.shared.settings import Settings
from hybrid.shared.status import replacements

FIRST_BUCKET, LAST_BUCKET = 16, 36
"""Of the histogram, as it is shown: 2**16 ns, which is 66 µs, to 2**36 ns, 69 s. What is less is in the first."""
LIVES = tuple(life for life in Life if life not in (Life.VACANT, Life.EXITED))


class StateView(health.StateView, Protocol):
    """What is needed of control's state."""

    @property
    def settings(self) -> Settings: ...


AppFamilies = Callable[[], Sequence[Metric]]
"""Returns the app's metrics. Runs in: a thread."""


class Collector:
    """Makes families of what is known. Runs in: control, in its loop. Raises: nothing, whatever a row holds."""

    def __init__(self, state: StateView, sampler: Sampler) -> None:
        self._state = state
        self._sampler = sampler
        self._steady = counters.Steady()

    def collect(self) -> list[Metric]:
        """Return every family, with the figures of now."""
        samples = self._sampler.sample()
        counts = counters.read(self._state.scoreboard)
        return [
            *self._about_server(),
            *self._about_pool(samples),
            self._counter(table.SPAWNED, [((), counts.started)]),
            self._counter(
                table.REPLACED, [((cause,), count) for cause, count in replacements(self._state.scoreboard).items()]
            ),
            *(self._sum(spec, counts.slots) for spec in table.COUNTED),
            *(
                _gauge(spec.all, [((), _together(spec, self._figures(spec, samples)))])
                for spec in table.GAUGES
                if spec.total
            ),
            self._durations(counts),
            *self._about_queue(samples),
            _info(table.WORKER, [_who(sample) for sample in samples]),
            *(self._by_slot(spec, counts.slots) for spec in table.COUNTED),
            *(_gauge(spec.each, self._figures(spec, samples)) for spec in table.GAUGES),
        ]

    def _about_server(self) -> Iterator[Metric]:
        started_at = self._state.pool.started_at
        if not started_at:
            started_at = wall() - (monotonic_ns() - self._state.scoreboard.started_ns) / SECOND
        yield _info(table.BUILD, [(__version__, platform.python_version())])
        yield _gauge(table.STARTED, [((), started_at)])
        yield _gauge(table.READY, [((), float(not health.why_not_ready(self._state)))])

    def _about_pool(self, samples: Sequence[WorkerSample]) -> Iterator[Metric]:
        pool = self._state.pool
        able = capacity(samples, pool.target, own_queues=own_queues(self._state.settings))
        for spec, value in (
            (table.GENERATION, pool.generation),
            (table.TARGET, pool.target),
            (table.LEAST, pool.least),
            (table.MOST, pool.most),
            (table.STANDBY, pool.standby),
            (table.LOAD, able.load if able.present else None),  # else each pod that boots would call for more
            (table.SPARE, able.spare),
        ):
            yield _gauge(spec, [((), value)])
        lives = Counter(sample.life for sample in samples)
        yield _gauge(table.WORKERS, [((life.name.lower(),), lives[life.name.lower()]) for life in LIVES])

    def _about_queue(self, samples: Sequence[WorkerSample]) -> Iterator[Metric]:
        found = totals(samples, own_queues=own_queues(self._state.settings))
        for spec, key in (
            (table.QUEUE, "accept_queue"),
            (table.QUEUE_LIMIT, "accept_queue_limit"),
            (table.QUEUE_WAIT, "accept_wait_s"),
            (table.BALANCE, "balance"),
        ):
            value: Any = found[key]
            yield _gauge(spec, [((), value)])

    # ── counters ──

    def _sum(self, spec: CounterSpec, slots: dict[int, dict[int, int]]) -> Metric:
        known = [counts[spec.cell] for counts in slots.values() if spec.cell in counts]
        return self._counter(spec.total, [((), sum(known) * spec.scale if known else None)])

    def _by_slot(self, spec: CounterSpec, slots: dict[int, dict[int, int]]) -> Metric:
        found = [
            ((str(slot),), counts[spec.cell] * spec.scale if spec.cell in counts else None)
            for slot, counts in slots.items()
        ]
        return self._counter(spec.each, found)

    def _counter(self, spec: Spec, samples: Iterable[tuple[tuple[str, ...], float | None]]) -> Metric:
        family = CounterMetricFamily(spec.name, spec.meaning, labels=spec.labels)
        for labels, value in samples:
            shown = self._steady((spec.name, labels), value)
            if shown is not None:
                family.add_metric(labels, shown)
        return family

    def _durations(self, counts: counters.Counts) -> Metric:
        name, total, buckets = table.DURATION.name, 0, []
        for bits in range(BUCKETS):
            total += counts.latencies[bits]
            if FIRST_BUCKET <= bits <= LAST_BUCKET:
                bound = repr(2.0**bits / SECOND)
                buckets.append((bound, self._steady((name, bound), total) or 0.0))
        buckets.append(("+Inf", self._steady((name, "+Inf"), total) or 0.0))
        spent_s = self._steady((name, "sum"), counts.latency_ns / SECOND)
        family = HistogramMetricFamily(name, table.DURATION.meaning)
        family.add_metric((), buckets, spent_s)
        return family

    # ── gauges ──

    def _figures(self, spec: GaugeSpec, samples: Sequence[WorkerSample]) -> list[tuple[tuple[str, ...], float]]:
        """Return what is known of each worker."""
        found: list[tuple[tuple[str, ...], float]] = []
        for sample in samples:
            value: float | None = getattr(sample, spec.sample)
            if value is not None:
                found.append(((str(sample.slot),), value))
        return found


def _together(spec: GaugeSpec, figures: Sequence[tuple[tuple[str, ...], float]]) -> float | None:
    known = [value for _, value in figures]
    if not known:
        return 0 if spec.total == "sum" else None
    return sum(known) if spec.total == "sum" else max(known)


def _who(sample: WorkerSample) -> tuple[str, ...]:
    return str(sample.slot), str(sample.seat), str(sample.pid), str(sample.generation), sample.life


def _gauge(spec: Spec, samples: Iterable[tuple[tuple[str, ...], float | None]]) -> Metric:
    family = GaugeMetricFamily(spec.name, spec.meaning, labels=spec.labels)
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, value)
    return family


def _info(spec: Spec, samples: Iterable[tuple[str, ...]]) -> Metric:
    family = InfoMetricFamily(spec.name, spec.meaning)
    for values in samples:
        family.add_metric((), dict(zip(spec.labels, values, strict=True)))
    return family


class Text:
    """What an encoder takes for a registry: families that are there already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        yield from self._families


def without_doubles(ours: Sequence[Metric], apps: Iterable[Metric]) -> list[Metric]:
    """Return both; of the app's, those whose name is ours are left out: a name twice makes the text invalid."""
    taken = {family.name for family in ours}
    return [*ours, *(family for family in apps if family.name not in taken)]


def _encoder(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """Return what makes the text that is asked for, and its type; whoever asks for what is none gets the default."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # version=abc
        return choose_encoder("")


def routes(state: StateView, sampler: Sampler, app_families: AppFamilies | None = None) -> Routes:
    """Return ``/metrics``, by path. Runs in: control. Closes: nothing. ``app_families``: None: the app has none."""
    collector = Collector(state, sampler)

    async def metrics(request: Request) -> Answer:
        encode, content_type = _encoder(request.headers.get("accept", ""))
        ours = collector.collect()

        def text() -> bytes:
            """Return the text. Runs in: a thread: files are read, and of many workers there is much to write."""
            registry: Any = Text(ours if app_families is None else without_doubles(ours, app_families()))
            return encode(registry)

        return Answer(await asyncio.to_thread(text), 200, content_type)

    return {"/metrics": metrics}
