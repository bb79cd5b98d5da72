"""A file that is being received: what is here, whose bytes they are, locked against others."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from discern.base.files import sync_folder, write_json


@dataclass(slots=True)
class PartialFile:
    """The file that is being received, locked, and which version of what it belongs to.

    `known`: its URL and version. `resumed`: bytes that an earlier attempt left and that are kept.
    """

    path: Path
    stream: BinaryIO
    known: dict[str, str] = field(default_factory=dict)
    resumed: int = 0

    @property
    def note(self) -> Path:
        """Where `known` is kept."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def length(self) -> int:
        """Bytes received."""
        return os.fstat(self.stream.fileno()).st_size

    def remember(self, url: str, version: str) -> None:
        """Note whose bytes follow."""
        if self.known != {"url": url, "version": version}:
            self.known = {"url": url, "version": version}
            write_json(self.note, self.known)

    def drop(self) -> None:
        """Forget what was received."""
        self.stream.truncate(0)
        self.note.unlink(missing_ok=True)
        self.known, self.resumed = {}, 0

    def settle(self) -> None:
        """Make what was received durable."""
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def digest(self, kind: str) -> str:
        """The sum of the bytes received."""
        with open(self.path, "rb") as stream:
            return hashlib.file_digest(
                stream, lambda: hashlib.new(kind, usedforsecurity=False)
            ).hexdigest()

    def finish(self, target: Path) -> None:
        """Give the whole file its name."""
        os.replace(self.path, target)
        self.note.unlink(missing_ok=True)
        sync_folder(target.parent)


@contextmanager
def partial_file(target: Path) -> Iterator[PartialFile]:
    """What was received of `target`; waits while another process is receiving it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f"{target.name}.part")
    while True:
        with open(path, "ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not path.exists() or not os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                continue  # the other process finished it
            part = PartialFile(path, stream)
            with suppress(FileNotFoundError, ValueError):
                known = json.loads(part.note.read_bytes())
                if isinstance(known, dict):
                    part.known = {str(key): str(value) for key, value in known.items()}
            try:
                yield part
            finally:
                if not part.length and path.exists():
                    path.unlink()
                    part.note.unlink(missing_ok=True)
            return
