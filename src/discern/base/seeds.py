"""Independent integer seeds, each derived by name from one master seed."""

from __future__ import annotations

import hashlib


def derive_seed(master: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the purpose `names`; equal inputs give equal seeds everywhere."""
    text = "/".join([str(master), *map(str, names)])
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
