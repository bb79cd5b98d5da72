"""Optimizers and learning-rate schedules. Knows parameters and steps, no network and no run."""
