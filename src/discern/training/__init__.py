"""The training engine: steps, stages, callbacks, checkpoints, evaluation."""
