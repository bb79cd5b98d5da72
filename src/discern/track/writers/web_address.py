"""The address of an HTTP server that figures are sent to, and how often."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urldefrag

from discern.base.errors import ConfigError

SCHEMES: Final = ("http://", "https://")
EVERY_S: Final = 1.0


def split_address(address: str) -> tuple[str, float]:
    """(address, seconds between POSTs) of `http://host/path`, or of `...#every_s=5`.

    Raises ConfigError.
    """
    url, words = urldefrag(address)
    given = parse_qs(words)
    try:
        every_s = float(given.pop("every_s", ["nan" if words else str(EVERY_S)])[0])
    except ValueError:
        every_s = -1.0
    if given or not every_s >= 0.0 or not url.startswith(SCHEMES):
        raise ConfigError(
            "not the address of a writer", where="writers", got=address,
            expected="http://host:port/path, or with #every_s=5 for the seconds between POSTs",
        )  # fmt: skip
    return url, every_s
