"""How each rank ended: small files beside the request, for torchrun hides exit codes and errors.

One launch has one folder, named by an environment variable that the ranks inherit. A rank leaves
its process number there when it starts and its outcome when it ends.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import OK, DiscernError
from discern.base.files import write_json

FOLDER_VARIABLE: Final = "DISCERN_RANKS_FOLDER"
_FAILURES: Final = "failures.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One rank's end. `consequence`: it ended because another had; `result`: what `--json` prints.

    `error`: the fields of its DiscernError; `traceback`: of a fault of the program itself;
    `time`: seconds on the machine's monotonic clock.
    """

    rank: int
    exit_code: int = OK
    error: dict[str, Any] | None = None
    traceback: str | None = None
    consequence: bool = False
    result: dict[str, Any] | None = None
    time: float = 0.0


def outcome_folder() -> Path | None:
    """The folder of this launch; None when somebody else's torchrun started the ranks."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else None


def note_start(folder: Path, rank: int) -> None:
    """Leave this process's number."""
    write_json(folder / f"pid-{rank}.json", os.getpid())


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Leave a rank's end."""
    record = {**asdict(outcome), "time": time.monotonic()}
    write_json(folder / f"outcome-{outcome.rank}.json", record)


def error_outcome(rank: int, error: DiscernError, **fields: Any) -> Outcome:
    """The outcome of a rank that `error` ended."""
    return Outcome(rank=rank, exit_code=error.exit_code, error=error.record(), **fields)


def read_outcomes(folder: Path) -> list[Outcome]:
    """What the ranks left, those that failed of themselves first, each in order of time."""
    found = [Outcome(**_read(path)) for path in folder.glob("outcome-*.json")]
    return sorted(found, key=lambda outcome: (outcome.consequence, outcome.time))


def rank_processes(folder: Path) -> dict[int, int]:
    """The process number of each rank that has started."""
    return {int(path.stem.removeprefix("pid-")): _read(path) for path in folder.glob("pid-*.json")}


def write_failures(folder: Path, exit_codes: Mapping[int, int]) -> None:
    """Leave the exit codes that torchrun saw: below 0, the signal that ended a rank."""
    write_json(folder / _FAILURES, {str(rank): code for rank, code in exit_codes.items()})


def read_failures(folder: Path) -> dict[int, int]:
    """What `write_failures` left; empty if nothing."""
    path = folder / _FAILURES
    return {int(rank): code for rank, code in _read(path).items()} if path.exists() else {}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
