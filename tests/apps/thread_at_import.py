"""Starts a thread when it is imported: the thread would be gone in a forked worker."""

from __future__ import annotations

import threading

from tests.apps.knobs import knobs

__all__ = ["knobs"]

threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
