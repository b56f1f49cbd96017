"""Measures real servers: the textbook's comparison of ways to accept, and steady load on a handler.

Runs in: the process of ``hybrid-bench`` and in client processes of its own. It starts every server that it talks to,
on loopback, and ends it.
"""
