"""Which of several ranks this process is, as torchrun's environment variables say."""

from __future__ import annotations

import os
from typing import Final

from discern.base.errors import ConfigError

_NAMES: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


def started_ranks() -> tuple[int, int, int]:
    """(rank, local rank, ranks) that torchrun started this process as; (0, 0, 1) without it."""
    given = [os.environ.get(name, "") for name in _NAMES]
    if not any(given):
        return 0, 0, 1
    if not all(text.isdigit() for text in given):
        raise ConfigError(
            "torchrun's environment is not whole",
            where=", ".join(_NAMES),
            got=", ".join(text or "nothing" for text in given),
            expected="a number each, or none of them",
        )
    rank, local_rank, ranks = map(int, given)
    return rank, local_rank, ranks
