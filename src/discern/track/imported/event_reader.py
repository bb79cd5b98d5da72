"""TensorBoard event files, read record by record: what stands before any damage is kept.

A record is its length (u64), a checksum of that (u32), the event, a checksum of it (u32); the
checksums are CRC-32C, masked. The event is a message of tensorboard's own protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from discern.track.imported.foreign_run import ForeignPoint, ForeignRun

PATTERN: Final = "*tfevents*"
_HEAD: Final = struct.Struct("<QI")
_TAIL: Final = struct.Struct("<I")
# An event beyond this is no event: the length itself is damaged in a way that its check misses.
_MOST_BYTES: Final = 1 << 30
_HPARAMS: Final = "_hparams_/session_start_info"


class _Damage(Exception):
    """A record that is cut short or broken."""


def read_events(run: ForeignRun, folder: Path, prefix: str = "") -> None:
    """Add the scalars of the event files in `folder` itself to `run`, as `prefix` + tag.

    Files are read in the order of their names, which is that of time. A writer that went on from an
    earlier step takes back what was written from that step on.
    """
    series: dict[str, list[ForeignPoint]] = {}
    for path in sorted(folder.glob(PATTERN)):
        run.files.append(path)
        for event in _events(run, path):
            if event.HasField("session_log") and event.session_log.status == 1:
                for name, points in series.items():
                    series[name] = [point for point in points if point.step < event.step]
            for value in event.summary.value:
                if value.tag == _HPARAMS:
                    run.settings.update(_hparams(value))
                    continue
                number = _scalar(value)
                if number is not None and event.step >= 0:
                    point = ForeignPoint(event.step, number, event.wall_time)
                    series.setdefault(prefix + value.tag, []).append(point)
    for name, points in series.items():
        run.series.setdefault(name, []).extend(points)


def _events(run: ForeignRun, path: Path) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event

    data = path.read_bytes()
    offset = 0
    while offset < len(data):
        try:
            event = Event()
            body = _record(data, offset)
            event.ParseFromString(bytes(body))
        except Exception as error:  # noqa: BLE001 - of the protocol's reader, and our own
            run.note(path, f"byte {offset}: {error}; what stands before is kept")
            return
        yield event
        offset += _HEAD.size + len(body) + _TAIL.size


def _record(data: bytes, offset: int) -> memoryview:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    view = memoryview(data)
    begin = offset + _HEAD.size
    if begin > len(data):
        raise _Damage("the file ends within a record")
    length, check = _HEAD.unpack_from(data, offset)
    if masked_crc32c(bytes(view[offset : offset + 8])) != check or length > _MOST_BYTES:
        raise _Damage("a record's length fails its check")
    if begin + length + _TAIL.size > len(data):
        raise _Damage("the file ends within a record")
    body = view[begin : begin + length]
    if masked_crc32c(bytes(body)) != _TAIL.unpack_from(data, begin + length)[0]:
        raise _Damage("a record fails its check")
    return body


def _scalar(value: Any) -> float | None:
    """The number of a summary in either of TensorBoard's forms; None for another kind."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    plugin = value.metadata.plugin_data.plugin_name
    if not value.HasField("tensor") or plugin not in ("", "scalars"):
        return None
    from tensorboard.util.tensor_util import make_ndarray

    try:
        array = make_ndarray(value.tensor)
    except (TypeError, ValueError):
        return None
    return float(array.item()) if array.size == 1 and array.dtype.kind in "fiu" else None


def _hparams(value: Any) -> dict[str, Any]:
    """The settings that the run began with."""
    from tensorboard.plugins.hparams import metadata

    info = metadata.parse_session_start_info_plugin_data(value.metadata.plugin_data.content)
    return {
        name: getattr(setting, setting.WhichOneof("kind"))
        for name, setting in info.hparams.items()
        if setting.WhichOneof("kind") in ("number_value", "string_value", "bool_value")
    }
