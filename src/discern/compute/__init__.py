"""Torch starts here: devices, precision, determinism."""
