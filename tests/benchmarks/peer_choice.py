"""What the benchmarks beside peers all take on the command line: which hybrid, which scheduler, how long."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import go_first
from tests.benchmarks.peer_commands import HYBRID, HYBRID_COMPILED, LOGGED, PLAIN, Setup, hybrid, kind_of
from tests.benchmarks.peer_report import machine
from tests.benchmarks.peer_servers import ROOT, Candidate

__all__ = ["COMPILED", "LEAST_ROUNDS", "add_options", "announce", "check", "subjects", "write_json"]

COMPILED = ROOT / "build" / "compiled"
"""Where a compiled hybrid is looked for."""
LEAST_ROUNDS = 5


def add_options(parser: argparse.ArgumentParser, *, rounds: int, for_s: float) -> None:
    """Add the options that all have; those of the time with a default."""
    parser.add_argument("--tree", type=Path, action="append", help="a source tree of hybrid; default: this one")
    parser.add_argument(
        "--compiled",
        type=Path,
        metavar="TREE",
        help="one with hybrid's libraries in it, measured as well; default: build/compiled, if it is there",
    )
    parser.add_argument("--fifo", action="store_true", help="run servers and load under SCHED_FIFO: as root")
    parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"default: {rounds}")
    parser.add_argument("--seconds", type=float, default=for_s, help="of load on each server in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def check(parser: argparse.ArgumentParser, chosen: argparse.Namespace, least_rounds: int = LEAST_ROUNDS) -> None:
    """Refuse what makes no sense, resolve the trees, and go under the scheduler that is asked for."""
    if chosen.rounds < least_rounds:
        parser.error(f"--rounds {chosen.rounds} is too few to say anything: give {least_rounds} or more")
    if chosen.seconds <= 0:
        parser.error(f"--seconds {chosen.seconds:g} is no load: give more than 0")
    chosen.trees = [tree.resolve() for tree in chosen.tree or [ROOT]]
    if chosen.compiled is None and _is_tree(COMPILED):
        chosen.compiled = COMPILED
    for option, tree in [*(("--tree", tree) for tree in chosen.trees), ("--compiled", chosen.compiled)]:
        if tree and not _is_tree(tree):
            parser.error(f"{option} {tree} holds no hybrid/: give the directory that it is in")
    if chosen.fifo:
        try:
            go_first()
        except PermissionError:
            parser.error("--fifo is not permitted here: run as root, or leave it out")


def _is_tree(place: Path) -> bool:
    return (place / "hybrid" / "__main__.py").is_file()


def subjects(chosen: argparse.Namespace, how: Setup = PLAIN) -> list[Candidate]:
    """Return hybrid as it is in one tree, and compiled if there is such a tree; each only as what it is called."""
    tree = chosen.trees[0]
    if not chosen.compiled:
        return [hybrid((HYBRID_COMPILED if kind_of(tree) == "compiled" else HYBRID) + LOGGED * how.logged, tree, how)]
    wanted = ((HYBRID, tree, "pure"), (HYBRID_COMPILED, chosen.compiled.resolve(), "compiled"))
    return [_as(name + LOGGED * how.logged, tree, kind, how) for name, tree, kind in wanted]


def _as(name: str, tree: Path, kind: str, how: Setup) -> Candidate:
    candidate, found = hybrid(name, tree, how), kind_of(tree)
    return candidate if found == kind else replace(candidate, problem=f"{tree} is {found}: give a tree that is {kind}")


def announce(candidates: Sequence[Candidate]) -> None:
    """Print what the figures depend on, and who is measured, with versions."""
    print(", ".join(machine().values()))
    print(", ".join(f"{each.name} {each.version or '(not installed)'}" for each in candidates), flush=True)


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write all figures, and the machine they are of, to a file if there is to be one."""
    if path:
        path.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
