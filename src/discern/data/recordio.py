"""Reading and writing RecordIO files, under our names and under MXNet's.

A file is mapped, never loaded: records are found by walking their heads, or by offset. The bytes
are `record_format`'s; `record_files` has `.idx` and `.lst`, `record_data` records as a data set.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from discern.base.errors import ConfigError, DamagedRecords, DataError, RunError
from discern.base.files import atomic_file
from discern.data.images import FORMATS, Pixels, check_image, decode_image
from discern.data.record_files import format_index, read_index
from discern.data.record_format import (
    ALIGNMENT,
    MAGIC,
    RECORD_LIMIT,
    ImageHeader,
    Payload,
    RecordSpan,
    encode_record,
    find_span,
    map_records,
    pack_header,
    seek_record,
    unpack_header,
    walk_spans,
)

__all__ = [
    "ALIGNMENT",
    "MAGIC",
    "RECORD_LIMIT",
    "DamagedRecords",
    "IRHeader",
    "ImageHeader",
    "MXIndexedRecordIO",
    "MXRecordIO",
    "RecordReader",
    "RecordSpan",
    "RecordWriter",
    "encode_record",
    "find_span",
    "map_records",
    "pack",
    "pack_header",
    "pack_img",
    "seek_record",
    "unpack",
    "unpack_header",
    "unpack_img",
]

IRHeader = ImageHeader


class RecordReader:
    """The records of a `.rec` file: in order, or by offset. Safe in threads and after a fork.

    `on_damage`: "error" raises DamagedRecords where the file is cut or broken; "stop" ends the
    iteration there, after every record before it, and keeps the fault in `damage`.
    """

    def __init__(self, path: Path | str, *, on_damage: str = "error") -> None:
        if on_damage not in ("error", "stop"):
            raise ConfigError("unknown on_damage", got=on_damage, expected="error or stop")
        self.path = Path(path)
        self.on_damage = on_damage
        self.damage: DamagedRecords | None = None
        self.view = map_records(self.path)

    def spans(self) -> Iterator[RecordSpan]:
        """Where each record lies, in order, without reading the payloads."""
        try:
            yield from walk_spans(self.view, self.path)
        except DamagedRecords as error:
            if self.on_damage == "error":
                raise
            self.damage = error

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(offset, payload) of every record, in order."""
        for span in self.spans():
            yield span.offset, span.payload(self.view)

    def read_at(self, offset: int) -> bytes:
        """The payload of the record at byte `offset`. Raises DamagedRecords."""
        return find_span(self.view, offset, self.path).payload(self.view)

    def close(self) -> None:
        """Give the mapping back; the reader cannot be used any more."""
        if isinstance(self.view, mmap.mmap):
            self.view.close()

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "on_damage": self.on_damage}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Filled in anew, mapping and all, in the process that unpickles.
        self.path, self.on_damage, self.damage = state["path"], state["on_damage"], None
        self.view = map_records(self.path)


class RecordWriter:
    """Writes records to a stream, or to a file that appears whole when the writer is closed.

    After an exception inside its `with` block nothing of the file is left.
    """

    def __init__(self, target: Path | str | BinaryIO) -> None:
        self._closing = contextlib.ExitStack()
        if isinstance(target, Path | str):
            self._stream = self._closing.enter_context(atomic_file(Path(target)))
            self._place = 0
        else:
            self._stream = target
            self._place = target.tell() if target.seekable() else 0
        if self._place % ALIGNMENT:
            raise DataError(
                "a record cannot begin here", got=f"byte {self._place}", expected="a multiple of 4"
            )

    def tell(self) -> int:
        """The offset at which the next record will begin."""
        return self._place

    def write(self, payload: Payload) -> int:
        """Append a record; gives its offset. Raises DataError for 2^29 bytes or more."""
        data = encode_record(payload)
        offset = self._place
        self._stream.write(data)
        self._place += len(data)
        return offset

    def close(self) -> None:
        """Finish the file; a stream that was given stays open."""
        self._closing.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.__exit__(kind, error, trace)


def pack(header: ImageHeader, s: Payload) -> bytes:
    """A record's payload: `header`, then the encoded image `s`."""
    return pack_header(ImageHeader(*header)) + bytes(s)


def unpack(s: bytes) -> tuple[ImageHeader, bytes]:
    """(header, encoded image) of a record's payload. Raises DataError."""
    header, begin = unpack_header(s)
    return header, s[begin:]


def pack_img(header: ImageHeader, img: Pixels, quality: int = 95, img_fmt: str = ".jpg") -> bytes:
    """A record's payload with `img`, uint8 [H, W] or [H, W, C], encoded by Pillow; RGB, not BGR.

    `quality`: of a JPEG, 1 to 100; for a PNG 0 to 9 is its compression, and above 9 (MXNet sends
    95 to both) its default. Raises ConfigError for another format, DataError for other arrays.
    """
    from PIL import Image

    suffix = img_fmt.lower()
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise ConfigError("unknown image format", got=img_fmt, expected=".jpg, .jpeg or .png")
    sound = img.ndim == 2 or (img.ndim == 3 and img.shape[2] in (1, 3, 4))
    if img.dtype != np.uint8 or not sound:
        raise DataError(
            "not an image array",
            got=f"{img.dtype} {list(img.shape)}",
            expected="uint8 [H, W] or [H, W, 1, 3 or 4]",
        )
    flat = img[:, :, 0] if img.ndim == 3 and img.shape[2] == 1 else img
    image = Image.fromarray(np.ascontiguousarray(flat))
    buffer = io.BytesIO()
    if suffix == ".png":
        options = {"compress_level": quality} if 0 <= quality <= 9 else {}
        image.save(buffer, "PNG", **options)
    elif image.mode == "RGBA":
        image.convert("RGB").save(buffer, "JPEG", quality=quality)
    else:
        image.save(buffer, "JPEG", quality=quality)
    return pack(header, buffer.getvalue())


def unpack_img(s: bytes, iscolor: int = -1) -> tuple[ImageHeader, Pixels]:
    """(header, pixels) of a record's payload, decoded by Pillow; RGB, not BGR.

    `iscolor`: above 0 gives uint8 [H, W, 3] and 0 gives [H, W], both by the rules of `images`; -1
    gives the image as it is stored: [H, W], [H, W, 3] or, with alpha, [H, W, 4]. Raises DataError.
    """
    header, data = unpack(s)
    if iscolor > 0:
        return header, decode_image(data, channels=3)
    mode = check_image(data).mode
    if iscolor == 0 or mode == "1" or mode.startswith("I"):
        return header, decode_image(data, channels=1)[:, :, 0]
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if mode not in ("L", "RGB", "RGBA"):
        clear = mode in ("LA", "PA") or "transparency" in image.info
        return header, np.array(image.convert("RGBA" if clear else "RGB"))
    return header, np.array(image)


class MXRecordIO:
    """MXNet's sequential reader (`flag` "r") or writer ("w"), with its methods and behavior.

    "w" empties the file at once. A process other than the one that opened it is refused. A reader
    can be pickled: the copy begins at the first record. Raises ConfigError for another flag.
    """

    def __init__(self, uri: Path | str, flag: str) -> None:
        if flag not in ("r", "w"):
            raise ConfigError("unknown flag of a record file", got=flag, expected="r or w")
        self.uri = str(uri)
        self.flag = flag
        self.writable = flag == "w"
        self.is_open = False
        self.open()

    def open(self) -> None:
        """Open the file; a writer empties it."""
        if self.writable:
            self._stream = open(self.uri, "wb")  # noqa: SIM115 - `close` closes it
            self._writer = RecordWriter(self._stream)
        else:
            self._reader = RecordReader(self.uri)
            self._place = 0
        self.pid = os.getpid()
        self.is_open = True

    def close(self) -> None:
        """Close the file; again is harmless."""
        if self.is_open:
            (self._stream if self.writable else self._reader).close()
            self.is_open = False

    def reset(self) -> None:
        """Begin again at the first record; a writer empties the file."""
        self.close()
        self.open()

    def read(self) -> bytes | None:
        """The next record's payload, None behind the last. Raises DataError, RunError."""
        self._need(writable=False)
        if self._place >= len(self._reader.view):
            return None
        span = find_span(self._reader.view, self._place, self.uri)
        self._place += span.length
        return span.payload(self._reader.view)

    def write(self, buf: Payload) -> None:
        """Append a record. Raises DataError, RunError."""
        self._need(writable=True)
        self._writer.write(buf)

    def _need(self, *, writable: bool, here: bool = True) -> None:
        if self.writable != writable or not self.is_open:
            raise RunError(
                "the record file is not open for this",
                where=self.uri,
                got=f"opened with flag {self.flag}" if self.is_open else "closed",
            )
        if here and self.pid != os.getpid():
            raise RunError(
                "a record file is used in order by several processes",
                where=self.uri,
                got=f"process {os.getpid()}; process {self.pid} opened it",
                hint="call reset() in each process, or read by key with MXIndexedRecordIO",
            )

    def __getstate__(self) -> dict[str, Any]:
        if self.writable:
            raise RunError("a record file open for writing cannot be pickled", where=self.uri)
        hidden = ("_reader", "_place", "pid")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.is_open:
            self.open()


class MXIndexedRecordIO(MXRecordIO):
    """MXRecordIO with an `.idx` beside it: `keys` in file order, `idx` from key to offset.

    `seek` and `read_idx` work in every process: the first one there opens the file anew.
    """

    def __init__(
        self, idx_path: Path | str, uri: Path | str, flag: str, key_type: Callable[[str], Any] = int
    ) -> None:
        self.idx_path = str(idx_path)
        self.key_type = key_type
        self.idx: dict[Any, int] = {}
        self.keys: list[Any] = []
        super().__init__(uri, flag)

    def open(self) -> None:
        """Open both files; a writer empties them."""
        super().open()
        entries = [] if self.writable else read_index(self.idx_path, self.key_type)
        self.idx = {entry.key: entry.offset for entry in entries}
        self.keys = [entry.key for entry in entries]
        if self.writable:
            self._lines = open(self.idx_path, "wb")  # noqa: SIM115 - `close` closes it

    def close(self) -> None:
        """Close both files; again is harmless."""
        if self.is_open and self.writable:
            self._lines.close()
        super().close()

    def _offset(self, idx: Any) -> int:
        self._need(writable=False, here=False)
        if self.pid != os.getpid():
            self.reset()
        if idx not in self.idx:
            raise DataError(
                "no record has this key",
                where=self.idx_path,
                got=repr(idx),
                expected=f"one of {len(self.idx)} keys",
            )
        return self.idx[idx]

    def seek(self, idx: Any) -> None:
        """Let `read` go on at the record with this key. Raises DataError, RunError."""
        self._place = self._offset(idx)

    def tell(self) -> int:
        """The offset at which the next record will be written. Raises RunError."""
        self._need(writable=True)
        return self._writer.tell()

    def read_idx(self, idx: Any) -> bytes:
        """The payload of the record with this key; safe in threads. Raises DataError, RunError."""
        offset = self._offset(idx)
        span = find_span(self._reader.view, offset, self.uri)
        self._place = offset + span.length
        return span.payload(self._reader.view)

    def write_idx(self, idx: Any, buf: Payload) -> None:
        """Append a record under a key. Raises DataError, RunError."""
        key, place = self.key_type(idx), self.tell()
        self.write(buf)
        self._lines.write(format_index([(key, place)]))
        self.idx[key] = place
        self.keys.append(key)
