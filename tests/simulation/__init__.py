"""A pool under load in simulated time: what a rule for its size is worth, before it decides about a real one."""
