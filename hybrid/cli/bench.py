"""``hybrid-bench``: compare the ways of accepting, or put steady load on a handler.

Runs in: the process that the user started, until the end: it starts servers and clients, and ends them, whether it
is finished, fails or is interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from hybrid.ground.errors import ExitCode, HybridError, UsageError

if TYPE_CHECKING:
    from hybrid.bench.handler_run import HandlerReport
    from hybrid.bench.report import Report
    from hybrid.bench.table import Table

_PROGRAM = "hybrid-bench"
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Watch = Callable[[str], None]


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception: nobody between here and the end is to take it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit code.

    Args: argv: without the program's name; None: the process's own.
    """
    # Here and not at the top: the library takes 80 ms to import.
    from hybrid.cli.bench_options import parse
    from hybrid.cli.command_line import Asked

    try:
        name, values = parse(list(sys.argv[1:] if argv is None else argv))
        with _stoppable():
            return _COMMANDS[name](values)
    except Asked as asked:
        asked.answer()
        return ExitCode.OK
    except HybridError as error:
        sys.stderr.write(f"{_PROGRAM}: error: {error}\n")
        return error.exit_code
    except Interrupted as stopped:
        sys.stderr.write(f"{_PROGRAM}: {signal.Signals(stopped.number).name}: stopped; nothing is left running\n")
        return 128 + stopped.number


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn the first signal into an exception, and ignore any further: what was started is being ended."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _STOPPING:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {each: signal.signal(each, stop) for each in _STOPPING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _accept(values: dict[str, Any]) -> int:
    from hybrid.bench import accept_run, plot
    from hybrid.bench.report import report, to_json

    _check_platform()
    plan = _accept_plan(values)
    found = accept_run.survey(plan)
    rows = len(accept_run.chosen_rows(plan, found))
    reports = []
    with _progress(accept_run.steps(plan, rows) * len(plan.workers)) as watch:
        for workers in plan.workers:
            reports.append(report(accept_run.compare(plan, workers, watch, found)))
    if values["plot"]:
        plot.save(reports, values["plot"])
    if values["json"]:
        sys.stdout.write(to_json(reports) + "\n")
    else:
        _show(_accept_parts(reports))
    measured = any(not row.problem for each in reports for row in each.rows)
    return ExitCode.OK if measured else ExitCode.UNEXPECTED


def _accept_plan(values: dict[str, Any]) -> Any:
    from hybrid.bench.accept_run import Plan
    from hybrid.bench.load import default_clients

    given = dict(values)
    del given["json"], given["plot"]
    plan = Plan(
        scenarios=given.pop("scenario"),
        per_s=given.pop("rate"),
        timeout_s=given.pop("timeout"),
        **{**given, "clients": given["clients"] or default_clients()},
    )
    if plan.is_users and "blocked" in plan.scenarios:
        raise UsageError(
            f"cannot use blocked for --scenario with --handler {plan.handler}: only the built-in handlers block when "
            "they are asked to. Leave out one of the two."
        )
    return plan


def _accept_parts(reports: Sequence[Report]) -> Iterator[Table | str]:
    from hybrid.bench.table import tables, unshown
    from hybrid.bench.verdict import paragraphs

    for report in reports:
        yield _heading(report)
        yield from tables(report).values()
        if why := unshown(report):
            yield why
        for line in report.bottlenecks:
            yield f"! load generator: {line}"
        yield from paragraphs(report)


def _heading(report: Report) -> str:
    machine = report.machine
    served = ", ".join(report.handlers.values())
    return (
        f"{served}: {report.plan['rounds']} rounds of {report.plan['for_s']:g} s, "
        f"{report.plan['clients']} client processes; "
        f"{machine['python']}, {machine['loop']}, {machine['kernel']}, {machine['cpus']} CPUs"
    )


def _handler(values: dict[str, Any]) -> int:
    from hybrid.bench import handler_run
    from hybrid.bench.load import default_clients

    _check_platform()
    given = dict(values)
    del given["json"]
    plan = handler_run.Plan(
        per_s=given.pop("rate"),
        timeout_s=given.pop("timeout"),
        **{**given, "clients": given["clients"] or default_clients()},
    )
    with _progress(handler_run.steps(plan)) as watch:
        found = handler_run.run(plan, watch)
    if values["json"]:
        sys.stdout.write(json.dumps(found.to_json(), indent=1) + "\n")
    else:
        _show(_handler_parts(found))
    return ExitCode.OK if found.latencies.count else ExitCode.UNEXPECTED


def _handler_parts(found: HandlerReport) -> Iterator[Table | str]:
    from hybrid.bench.table import handler_table, percentiles
    from hybrid.bench.verdict import handler_verdict

    yield handler_table(found)
    yield percentiles(found.latencies)
    yield handler_verdict(found)


_COMMANDS: dict[str, Callable[[dict[str, Any]], int]] = {"accept": _accept, "handler": _handler}


def _check_platform() -> None:
    if sys.platform != "linux":
        raise UsageError(
            f"cannot measure on {sys.platform}: the pool and the figures need Linux (/proc, CPU clocks). Use Linux."
        )


# ── showing ──


@contextmanager
def _progress(total: int) -> Iterator[Watch]:
    """Show a bar while the block runs, if somebody looks at standard error; what it yields is told each step."""
    if not sys.stderr.isatty():
        yield lambda _step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        first = True

        def watch(step: str) -> None:
            nonlocal first
            bar.update(task, advance=0 if first else 1, description=step)
            first = False

        yield watch


def _show(parts: Iterator[Table | str]) -> None:
    """Print tables and paragraphs: with rich on a terminal, as plain text elsewhere."""
    from hybrid.bench.table import plain, rich_table

    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console

        console = Console(highlight=False)
        for part in parts:
            console.print(part if isinstance(part, str) else rich_table(part), markup=False)
            console.print()
        return
    import textwrap

    for part in parts:
        text = textwrap.fill(part, 110) + "\n" if isinstance(part, str) else plain(part)
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
