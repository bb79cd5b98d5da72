"""What `doctor` measures: decoders, write speed, torch's devices, the network.

Each check gives plain values and a `problem` text instead of raising, since a machine on which
something does not work is what doctor is for.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

# The peer benchmarks use photos of about 500 x 375 (ImageNet's median); 0.2 s give a figure that
# repeats to a few percent.
_PHOTO_SIZE: Final = (500, 375)
_MEASURE_S: Final = 0.2
_WRITE_BYTES: Final = 32 << 20
_TORCH_TIMEOUT_S: Final = 120.0
_TORCH_CODE: Final = """
import json, torch
devices = []
for i in range(torch.cuda.device_count()):
    p = torch.cuda.get_device_properties(i)
    devices.append({"name": p.name, "memory": p.total_memory})
mps = bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available())
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices,
                  "mps": mps, "threads": torch.get_num_threads()}))
"""


def photo_jpeg(seed: int = 0) -> bytes:
    """A JPEG (quality 90, 4:2:0) with a photo's detail: smooth shapes under fine grain."""
    import numpy as np
    from PIL import Image

    width, height = _PHOTO_SIZE
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 70.0), (16, 40.0), (64, 18.0), (250, 9.0)):
        coarse = random.normal(0.0, 1.0, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[:, :, channel], mode="F")
            grown = layer.resize((width, height), Image.Resampling.BICUBIC)
            pixels[:, :, channel] += strength * np.asarray(grown)
    stream = io.BytesIO()
    image = Image.fromarray(np.clip(pixels + 128.0, 0, 255).astype(np.uint8))
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def jpeg_decoders() -> list[dict[str, Any]]:
    """Each JPEG decoder: `name`, `version`, `images_per_s` (one thread, 500 x 375) or `problem`."""
    try:
        data = photo_jpeg()
    except ImportError as error:
        return [{"name": "pillow", "problem": str(error)}]
    return [
        _measured_decoder(name, opener, data)
        for name, opener in (
            ("simplejpeg", _open_simplejpeg),
            ("opencv", _open_opencv),
            ("pillow", _open_pillow),
        )
    ]


def write_speed(folder: Path) -> dict[str, Any]:
    """`bytes_per_s` written and synced in `folder` (32 MiB, removed again), or `problem`."""
    path = folder / f".discern-write-{os.getpid()}"
    block = os.urandom(1 << 20)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with open(path, "xb") as stream:
            for _ in range(_WRITE_BYTES >> 20):
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
        seconds = time.perf_counter() - started
        path.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        return {"bytes_per_s": None, "problem": str(error)}
    return {"bytes_per_s": _WRITE_BYTES / seconds}


def torch_devices() -> dict[str, Any]:
    """What torch sees, in a process of its own: `version`, `cuda`, `devices`, or `problem`."""
    try:
        out = subprocess.run(
            [sys.executable, "-c", _TORCH_CODE],
            capture_output=True,
            text=True,
            timeout=_TORCH_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"version": None, "problem": str(error)}
    if out.returncode:
        lines = out.stderr.strip().splitlines()
        return {"version": None, "problem": lines[-1] if lines else f"exit code {out.returncode}"}
    found: dict[str, Any] = json.loads(out.stdout.strip().splitlines()[-1])
    return found


def network(timeout_s: float = 2.0) -> dict[str, Any]:
    """Whether the model hub's host takes a connection within `timeout_s`: `host`, `reachable`.

    The host is that of $HF_ENDPOINT, else huggingface-hub's own. Nothing is sent.
    """
    try:
        from huggingface_hub.constants import ENDPOINT
    except ImportError as error:
        return {"host": None, "reachable": False, "problem": str(error)}
    address = urlsplit(ENDPOINT)
    host = address.hostname or ENDPOINT
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        # Name look-ups have no timeout of their own; the system's resolver decides.
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError as error:
        return {"host": host, "reachable": False, "problem": str(error)}
    return {"host": host, "reachable": True}


def _measured_decoder(
    name: str, opener: Callable[[], tuple[str, Callable[[bytes], Any]]], data: bytes
) -> dict[str, Any]:
    try:
        version, decode = opener()
        decode(data)
        count = 0
        started = time.perf_counter()
        while (seconds := time.perf_counter() - started) < _MEASURE_S:
            decode(data)
            count += 1
    except (ImportError, OSError, ValueError) as error:
        return {"name": name, "version": None, "images_per_s": None, "problem": str(error)}
    return {"name": name, "version": version, "images_per_s": round(count / seconds, 1)}


def _open_simplejpeg() -> tuple[str, Callable[[bytes], Any]]:
    import simplejpeg

    return str(simplejpeg.__version__), lambda data: simplejpeg.decode_jpeg(data, "RGB")


def _open_opencv() -> tuple[str, Callable[[bytes], Any]]:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    return str(cv2.__version__), lambda data: cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR
    )


def _open_pillow() -> tuple[str, Callable[[bytes], Any]]:
    import PIL
    from PIL import Image, features

    turbo = features.version_feature("libjpeg_turbo")
    version = f"{PIL.__version__} ({'libjpeg-turbo ' + turbo if turbo else 'libjpeg'})"
    return version, lambda data: Image.open(io.BytesIO(data)).load()
