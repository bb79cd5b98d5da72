"""Places besides a run's own log that figures can be written to."""
