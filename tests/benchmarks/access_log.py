"""What a line of the access log costs its worker: CPU for making it, and for making and writing it.

``python -m tests.benchmarks.access_log --rounds 15``: a tight loop in this process, pinned, so the floor of the cost; a
browser's request with 12 header fields. What it costs a server, where it meets cold caches, is another benchmark's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hybrid.connection.access_line import Entry, compile_format
from hybrid.connection.access_log import AccessLog
from hybrid.connection.request_id import request_id
from hybrid.ground.clock import monotonic
from hybrid.http.head import Head, HeadLimits, HeadReader
from hybrid.shared.log_line import open_log_file
from tests.benchmarks.measure import SERVER_CPU, pin

FORMATS = {
    "%(h)s %(s)s": "%(h)s %(s)s",
    "combined": "combined",
    "combined, %(D)s and an id": 'combined %(D)s "%({request_id}x)s"',
    "json": "json",
}
REQUEST = (
    b"GET /articles/2026/11/a-long-title?utm_source=newsletter&page=2 HTTP/1.1\r\nHost: www.example.org\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://www.example.org/articles/2026/\r\n"
    b"Connection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nPriority: u=0, i\r\n\r\n"
)
CLIENT = ("192.0.2.1", 40000)
LINES = 5000


def measure(work: Callable[[], object], rounds: int) -> float:
    """Return the median of µs of CPU per call."""
    costs = []
    for _ in range(rounds + 1):
        before = time.process_time_ns()
        for _ in range(LINES):
            work()
        costs.append((time.process_time_ns() - before) / 1000 / LINES)
    return statistics.median(costs[1:])  # the first round warms up


def request() -> Head:
    """Return the head that is logged."""
    head = HeadReader(HeadLimits()).read(REQUEST, 0)
    assert head is not None
    return head


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=15)
    rounds = options.parse_args().rounds
    pin(SERVER_CPU)
    head, started = request(), monotonic()

    def entry() -> Entry:
        return Entry(head, CLIENT, "http", 200, 4711, started)

    print(f"µs of CPU, medians of {rounds} rounds, CPython {sys.version_info[0]}.{sys.version_info[1]}")
    print(f"  {'an entry alone':28} {measure(entry, rounds):6.2f}")
    print(f"  {'a request id alone':28} {measure(lambda: request_id(head), rounds):6.2f}")
    print(f"  {'format':28} {'made':>6} {'and written to a file':>22} {'/dev/null':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FORMATS.items():
            text = text.replace("combined ", '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" ')
            line_of, _ = compile_format(text, 0)
            made = measure(lambda line_of=line_of: line_of(entry()), rounds)  # type: ignore[misc]  # bound now
            written = []
            for path in (str(Path(folder) / "log"), os.devnull):
                fd = open_log_file(path)
                log = AccessLog(line_of, fd)
                written.append(measure(lambda log=log: log.wrote(entry()), rounds))  # type: ignore[misc]  # bound now
                log.close()
                os.close(fd)
            print(f"  {name:28} {made:6.2f} {written[0]:22.2f} {written[1]:10.2f}")


if __name__ == "__main__":
    main()
