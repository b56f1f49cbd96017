"""The worker: a forked child, one loop. Boots, accepts, serves, drains, leaves."""
