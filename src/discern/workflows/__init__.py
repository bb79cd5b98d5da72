"""One-off work around a model: reports and what comes after a training."""
