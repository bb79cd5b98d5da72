"""The files of a run's logged images, texts and tensors. Owns `artifacts/` and `artifacts.jsonl`.

A file is `artifacts/<name>/<step>.png|txt|npy`; a line of `artifacts.jsonl` names it once it is
whole: {"kind", "name", "step", "time", "file"}. A line {"rewind": N} drops the earlier ones of
steps above N. A torn last line is left out by readers and ended by the next writer.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.files import write_bytes
from discern.track.run_folder import clean_name

ARTIFACTS: Final = "artifacts"
ARTIFACT_LIST: Final = "artifacts.jsonl"
_MOST_STEM_BYTES: Final = 120


class ArtifactFiles:
    """Writes the artifacts of the run in `folder`. All methods raise OSError as the disk does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, kind: str, name: str, step: int, time: float, content: bytes | Any) -> str:
        """Write one artifact; gives its path relative to the run's folder.

        `content`: PNG bytes of an image, a text, or the array of a tensor. One of the same name
        and step is replaced.
        """
        suffix = {"image": "png", "tensor": "npy"}.get(kind, "txt")
        file = f"{ARTIFACTS}/{folder_name(name)}/{step}.{suffix}"
        write_bytes(self._folder / file, _bytes_of(kind, content))
        line = {"kind": kind, "name": name, "step": step, "time": time, "file": file}
        self._append(line)
        return file

    def rewind(self, step: int) -> None:
        """What was saved at steps above `step` does not count any more."""
        if (self._folder / ARTIFACT_LIST).exists():
            self._append({"rewind": step})

    def _append(self, record: dict[str, Any]) -> None:
        handle = os.open(self._folder / ARTIFACT_LIST, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, (b"\n" if torn else b"") + json.dumps(record).encode() + b"\n")
        finally:
            os.close(handle)


def list_artifacts(folder: Path) -> list[dict[str, Any]]:
    """The artifacts of the run in `folder` that count, in the order written."""
    try:
        data = (folder / ARTIFACT_LIST).read_bytes()
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = []
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the end of a killed writer's line
        if not isinstance(record, dict):
            continue
        if "rewind" in record:
            found = [entry for entry in found if entry["step"] <= record["rewind"]]
            continue
        same = (record["name"], record["step"])
        found = [entry for entry in found if (entry["name"], entry["step"]) != same]
        found.append(record)
    return found


def folder_name(name: str) -> str:
    """A file name for `name`: itself where it can be one, else cleaned and with its CRC-32."""
    clean = clean_name(name)
    if clean == name and len(name.encode()) <= _MOST_STEM_BYTES:
        return name
    while len(clean.encode()) > _MOST_STEM_BYTES:
        clean = clean[:-1]
    return f"{clean}-{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"


def _bytes_of(kind: str, content: Any) -> bytes:
    if kind == "image":
        return bytes(content)
    if kind == "tensor":
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.asarray(content), allow_pickle=False)
        return stream.getvalue()
    return str(content).encode("utf-8", "backslashreplace")
