"""Checkpoints of a run: when one is complete, which are kept, which one is read.

A checkpoint is a folder `step-N`: safetensors files, `state.json`, and `manifest.json` with size
and SHA-256 of each. It appears by one rename after fsync; readers take the newest whose manifest
verifies. No pickle.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from discern.base.errors import RunError
from discern.base.files import atomic_folder, hash_bytes, hash_file
from discern.training.tensor_trees import on_host

FORMAT_VERSION: Final = 1
KEEP_LAST: Final = 2  # a damaged newest one must always leave another to go back to
_SPACE_FACTOR: Final = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint read back and verified."""

    path: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def checkpoint_step(path: Path) -> int | None:
    """The step in a checkpoint folder's name, or None for anything else."""
    prefix, _, digits = path.name.partition("-")
    return int(digits) if prefix == "step" and digits.isdigit() else None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint. Raises RunError naming the first damaged file."""
    step = checkpoint_step(path)
    manifest = _read_json(path / "manifest.json")
    if step is None or manifest.get("version") != FORMAT_VERSION:
        raise RunError(
            "not a checkpoint that this version reads",
            where=path,
            got=f"version {manifest.get('version')}",
            expected=f"version {FORMAT_VERSION}",
        )
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            raise RunError("a checkpoint file is missing or cut short", where=file)
        if hash_file(file) != entry["sha256"]:
            raise RunError("a checkpoint file is damaged: its SHA-256 differs", where=file)
    tensors = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            tensors[file.stem] = safetensors.torch.load_file(file)
        except SafetensorError as error:
            raise RunError(f"a checkpoint file cannot be read: {error}", where=file) from error
    return Checkpoint(path, step, tensors, _read_json(path / "state.json"))


def read_state(path: Path) -> dict[str, Any]:
    """The JSON values of a checkpoint, without its tensors and not verified. Raises RunError."""
    return _read_json(path / "state.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError("a checkpoint file is missing", where=path) from None
    except ValueError as error:
        raise RunError(f"a checkpoint file is damaged: {error}", where=path) from error
    if not isinstance(value, dict):
        raise RunError("a checkpoint file is damaged", where=path)
    return value


class CheckpointStore:
    """The checkpoints in one folder, written by the run's one writer.

    `check_fence` is called before a checkpoint takes its name: it raises if another writer has
    taken the run over. `warn` is told of every checkpoint that had to be passed over.
    """

    def __init__(
        self,
        folder: Path,
        *,
        warn: Callable[[str], None],
        check_fence: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self._warn = warn
        self._check_fence = check_fence
        folder.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        """The steps there are checkpoints of, verified or not, ascending."""
        found = (checkpoint_step(path) for path in self.folder.iterdir() if path.is_dir())
        return sorted(step for step in found if step is not None)

    def path(self, step: int) -> Path:
        """The folder of the checkpoint of `step`."""
        return self.folder / f"step-{step}"

    def write(
        self, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]
    ) -> Path:
        """Save a checkpoint; a sound one of the same step stays. Raises RunError.

        On a full disk nothing saved before is touched.
        """
        self._check_fence()  # told before the disk is asked for room in a folder that is gone
        path = self.path(step)
        if path.exists():
            try:
                return read_checkpoint(path).path
            except RunError as error:
                self._warn(f"checkpoint step-{step} is written anew: {error.what} ({error.where})")
                shutil.rmtree(path)
        encoded = {
            f"{name}.safetensors": safetensors.torch.save(on_host(group))
            for name, group in tensors.items()
        }
        encoded["state.json"] = json.dumps(state, indent=1).encode()
        self._need_space(sum(map(len, encoded.values())))
        manifest = {
            "version": FORMAT_VERSION,
            "step": step,
            "files": {
                name: {"bytes": len(data), "sha256": hash_bytes(data)}
                for name, data in encoded.items()
            },
        }
        encoded["manifest.json"] = json.dumps(manifest, indent=1).encode()
        try:
            with atomic_folder(path) as temporary:
                for name, data in encoded.items():
                    (temporary / name).write_bytes(data)
                self._check_fence()
        except OSError as error:
            raise self._write_failed(path, error) from error
        return path

    def _need_space(self, size: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < _SPACE_FACTOR * size:
            raise RunError(
                "the disk is too full for a checkpoint; the earlier ones are untouched",
                where=self.folder,
                got=f"{free / 1e6:.1f} MB free",
                expected=f"{_SPACE_FACTOR * size / 1e6:.1f} MB",
                hint="free some space, then give the same command again: the run goes on",
            )

    def _write_failed(self, path: Path, error: OSError) -> RunError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return RunError(
            "the disk is full" if full else f"a checkpoint cannot be written: {error}",
            where=path,
            hint="the earlier checkpoints are untouched; give the same command again to go on",
        )

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that verifies; each one passed over is named in a warning."""
        return self.at_most(None)

    def at_most(self, limit: int | None) -> Checkpoint | None:
        """The newest verified checkpoint of step <= `limit` (None: of any step)."""
        for step in reversed(self.steps()):
            if limit is not None and step > limit:
                continue
            try:
                return read_checkpoint(self.path(step))
            except RunError as error:
                self._warn(f"checkpoint step-{step} is passed over: {error.what} ({error.where})")
        return None

    def keep(self, wanted: set[int]) -> list[int]:
        """Delete all but the last two and the `wanted` steps; gives the steps deleted.

        Nothing is deleted unless the newest checkpoint verifies.
        """
        steps = self.steps()
        dropped = [step for step in steps[:-KEEP_LAST] if step not in wanted]
        if not dropped:
            return []
        try:
            read_checkpoint(self.path(steps[-1]))
        except RunError as error:
            self._warn(f"no older checkpoint is deleted: {error.what} ({error.where})")
            return []
        for step in dropped:
            shutil.rmtree(self.path(step))
        return dropped
