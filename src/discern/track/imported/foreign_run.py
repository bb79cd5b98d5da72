"""One run that another program recorded, as read from its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A file of settings (YAML or JSON) as a mapping; raises DiscernError for one that is damaged.
ReadMapping = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ForeignPoint:
    """One figure: `step`, `value`, and `time` in seconds since 1970."""

    step: int
    value: float
    time: float


@dataclass(slots=True)
class ForeignRun:
    """What was found in `source`, a folder or file that a program of the kind `form` wrote.

    `problems`: files that are damaged, each with what is wrong; the rest was read. `files`: all
    that was read, of which `fingerprint` is made.
    """

    form: str
    source: Path
    series: dict[str, list[ForeignPoint]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def add(self, name: str, step: int, value: float, time: float) -> None:
        """One more figure of a series."""
        self.series.setdefault(name, []).append(ForeignPoint(step, value, time))

    def note(self, path: Path, problem: object) -> None:
        """A file, or a place in it, that could not be read."""
        self.problems.append(f"{path}: {problem}")

    def mapping(self, path: Path, read: ReadMapping) -> dict[str, Any]:
        """A file of settings; empty if there is none, or if it is damaged, which is noted."""
        if not path.is_file():
            return {}
        self.files.append(path)
        try:
            return read(path)
        except Exception as error:  # noqa: BLE001 - told, whatever it is
            self.note(path, str(error).splitlines()[0])
            return {}

    def list_checkpoints(self, folder: Path, pattern: str) -> None:
        """Name the checkpoints below `folder`; they stay where they are."""
        found = sorted(folder.glob(pattern)) if folder.is_dir() else []
        self.checkpoints += [str(path.relative_to(self.source)) for path in found]

    def fingerprint(self) -> str:
        """A hash of the contents of all files read: the same run again has the same."""
        digest = hashlib.sha256()
        for path in sorted(set(self.files)):
            digest.update(str(path.name).encode("utf-8", "surrogateescape") + b"\0")
            with open(path, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()
