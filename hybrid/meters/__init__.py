"""Readers of what load does to a process: how busy a loop is, how late, who waits for a CPU, who waits to be accepted.

Standard library only and no event loop, so that any process may read. Each reader answers None for "unknown": a
system that does not tell is never reported as an idle one.
"""
