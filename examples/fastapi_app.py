"""FastAPI: JSON, a lifespan, and server-sent events; needs ``pip install fastapi``.

    hybrid-serve examples/fastapi_app.py:app --bind 127.0.0.1:8082

Try it: ``curl http://127.0.0.1:8082/notes -d '{"text": "buy milk"}' -H 'content-type: application/json'``, then
``curl http://127.0.0.1:8082/notes/1``, and ``curl -N http://127.0.0.1:8082/events``.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


class Note(BaseModel):
    """What is sent and kept."""

    text: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    """Open the database: once for each worker, which shares the file with the others."""
    database = sqlite3.connect(os.environ.get("NOTES_DB", "notes.db"), isolation_level=None, timeout=10)
    database.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
    yield {"database": database}
    database.close()


app = FastAPI(lifespan=lifespan)


@app.post("/notes", status_code=201)
async def add(note: Note, request: Request) -> dict[str, object]:
    """Keep a note; say where."""
    added = request.state.database.execute("INSERT INTO notes (text) VALUES (?)", (note.text,))
    return {"id": added.lastrowid, "text": note.text}


@app.get("/notes/{note_id}")
async def read(note_id: int, request: Request) -> Note:
    """Return a note, whichever worker took it."""
    row = request.state.database.execute("SELECT text FROM notes WHERE id = ?", (note_id,)).fetchone()
    if row is None:
        raise HTTPException(404, "no such note")
    return Note(text=row[0])


@app.get("/events")
async def events() -> StreamingResponse:
    """Tell the time, until the client leaves or the server stops."""

    async def clock() -> AsyncIterator[str]:
        while True:
            yield f"data: {time.strftime('%X')}\n\n"
            await asyncio.sleep(1)

    return StreamingResponse(clock(), media_type="text/event-stream")
