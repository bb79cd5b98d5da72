"""What a worker is asked to do: a verb and its arguments, in a JSON file.

The command line, torchrun, schedulers and sweeps all start a worker with such a file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.base.files import write_json

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One piece of work. `pairs`: (origin, key, value) of each flag given, in order."""

    verb: str
    arguments: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    pairs: list[tuple[str, str, Any]] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    json: bool = False
    quiet: bool = False
    debug: bool = False


def write_request(path: Path, request: Request) -> None:
    """Write `request` to `path` atomically."""
    write_json(path, {"version": FORMAT_VERSION, **asdict(request)})


def read_request(path: Path) -> Request:
    """Read what `write_request` wrote. Raises ConfigError."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record.pop("version")
        record["pairs"] = [tuple(pair) for pair in record.get("pairs", [])]
        request = Request(**record)
    except FileNotFoundError:
        raise ConfigError("no such request file", where=path) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"not a request file: {error}", where=path) from error
    if version != FORMAT_VERSION:
        raise ConfigError(
            "the request is of another version", where=path, got=version, expected=FORMAT_VERSION
        )
    return request
