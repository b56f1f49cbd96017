"""Connections: an accepted socket until closed. asyncio begins on this floor."""
