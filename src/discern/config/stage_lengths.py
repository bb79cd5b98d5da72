"""The ways to say how long a stage is; each stage has exactly one."""

from typing import Final

LENGTHS: Final = ("epochs", "steps", "examples", "minutes")
DEFAULT_EPOCHS: Final = 10
