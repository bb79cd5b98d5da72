"""The idx files of MNIST: big-endian magic and dimensions, then uint8 values; gzipped or plain."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError

_UINT8: Final = 0x08
_GZIP: Final = b"\x1f\x8b"
_MOST_DIMENSIONS: Final = 4


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an idx file of uint8 values. Raises DataError naming the file."""
    try:
        data = path.read_bytes()
        if data[:2] == _GZIP:
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the file cannot be read: {error}", where=path) from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UINT8:
        raise DataError(
            "not an idx file of bytes",
            where=path,
            got=data[:4].hex(),
            expected="000008.. at its start",
        )
    count = data[3]
    if not 1 <= count <= _MOST_DIMENSIONS or len(data) < 4 + 4 * count:
        raise DataError("the idx file's header is damaged", where=path, got=data[:8].hex())
    shape = struct.unpack(f">{count}I", data[4 : 4 + 4 * count])
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * count)
    if len(values) != math.prod(shape):
        raise DataError(
            "the idx file's length does not fit its header",
            where=path,
            got=f"{len(values)} values",
            expected=f"{' x '.join(map(str, shape))} = {math.prod(shape)}",
        )
    return values.reshape(shape).copy()
