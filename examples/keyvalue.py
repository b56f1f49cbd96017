"""A key-value store that speaks in lines, kept in one SQLite file that all workers share.

    hybrid-serve examples/keyvalue.py:serve --lifespan examples/keyvalue.py:lifespan --bind 127.0.0.1:7002

Try it: ``printf 'set colour blue\\nget colour\\nquit\\n' | nc 127.0.0.1 7002``
The file is ``keyvalue.db``, or what ``KEYVALUE_DB`` names.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hybrid import Connection, Worker


class Store:
    """Keys and values; each worker has its own connection to the same file."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS pairs (key TEXT PRIMARY KEY, value TEXT)")

    def get(self, key: str) -> str | None:
        row = self._database.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?)", (key, value))

    def close(self) -> None:
        self._database.close()


@asynccontextmanager
async def lifespan(worker: Worker) -> AsyncIterator[Store]:
    """Open the database once per worker: SQLite forbids to carry a connection through a fork."""
    store = Store(os.environ.get("KEYVALUE_DB", "keyvalue.db"))
    try:
        yield store
    finally:
        store.close()


async def serve(conn: Connection) -> None:
    """Answer one line for each line; leave between two of them when the worker drains."""
    store: Store = conn.state
    async for line in conn.lines(limit=4096):
        match line.decode(errors="replace").split(maxsplit=2):
            case ["get", key]:
                answer = store.get(key) or "-"
            case ["set", key, value]:
                store.set(key, value)
                answer = "ok"
            case ["quit"]:
                return
            case _:
                answer = "say: get KEY, set KEY VALUE, or quit"
        await conn.send(f"{answer}\n".encode())
        if conn.draining:
            return
