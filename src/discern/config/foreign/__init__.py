"""Configs of the older suites, made into Discern's: what maps to what, and what does not."""
