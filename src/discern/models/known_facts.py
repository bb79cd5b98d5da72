"""What was found out about networks on this machine: sizes once counted, speeds once measured.

Owns two files in the cache, `models/counts.json` (for one version of timm and of Discern: another
one counts again) and `models/speeds.json`. Both can be deleted at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ModelError
from discern.base.files import cache_folder, write_json
from discern.base.version import __version__

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Counts:
    """`parameters`: values in all of them; `gmacs`: 10**9 multiply-adds for one image."""

    parameters: int
    gmacs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSpeed:
    """One measurement of a forward pass on this machine.

    `images_per_s`: of the median batch. `p50_ms`, `p90_ms`, `p99_ms`: time of a batch. `peak_mb`:
    most memory, in 10**6 bytes: allocated by torch on a GPU, of the whole process on a CPU.
    """

    network: str
    batch_size: int
    image_size: tuple[int, int]
    precision: str
    device: str
    device_name: str
    threads: int
    images_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    peak_mb: float
    torch: str

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "image_size": list(self.image_size)}


def read_counts() -> dict[str, Counts]:
    """The sizes that are known, by network; empty when they are of other versions."""
    record = _read(_counts_file())
    if record is None or record["made_by"] != _made_by():
        return {}
    return {name: Counts(*values) for name, values in record["networks"].items()}


def save_counts(counts: dict[str, Counts]) -> None:
    """Keep the sizes."""
    networks = {name: [one.parameters, one.gmacs] for name, one in sorted(counts.items())}
    write_json(_counts_file(), {"version": _VERSION, "made_by": _made_by(), "networks": networks})


def read_speeds() -> list[InferenceSpeed]:
    """What `discern bench infer` measured here, oldest first."""
    record = _read(_speeds_file())
    rows = [] if record is None else record["speeds"]
    return [InferenceSpeed(**{**row, "image_size": tuple(row["image_size"])}) for row in rows]


def save_speeds(speeds: Iterable[InferenceSpeed]) -> None:
    """Keep the measurements; one of the same kind gives way to the newer."""
    kept = {_kind(speed): speed for speed in [*read_speeds(), *speeds]}
    rows = [speed.record() for speed in kept.values()]
    write_json(_speeds_file(), {"version": _VERSION, "speeds": rows})


def fastest(speeds: Iterable[InferenceSpeed], network: str) -> InferenceSpeed | None:
    """The measurement of `network` with the most images a second; None if there is none."""
    own = [speed for speed in speeds if speed.network == network]
    return max(own, key=lambda speed: speed.images_per_s, default=None)


def _kind(speed: InferenceSpeed) -> tuple[Any, ...]:
    return (
        speed.network,
        speed.batch_size,
        speed.image_size,
        speed.precision,
        speed.device,
        speed.device_name,
        speed.threads,
    )


def _made_by() -> str:
    return f"discern {__version__}, timm {metadata.version('timm')}"


def _counts_file() -> Path:
    return cache_folder("models") / "counts.json"


def _speeds_file() -> Path:
    return cache_folder("models") / "speeds.json"


def _read(path: Path) -> dict[str, Any] | None:
    """The file's record; None if there is none or it is of another version of this format."""
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            "a file of the cache is damaged", where=path, got=str(error), hint="delete it"
        ) from error
    return record if record.get("version") == _VERSION else None
