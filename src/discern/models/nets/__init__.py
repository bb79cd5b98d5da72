"""Discern's own networks: one file a family, one builder each."""
