"""What `--device` and `--nproc` say together: the ids in a list, and how many ranks are wanted."""

from __future__ import annotations

from discern.base.errors import ConfigError


def listed_devices(text: str) -> tuple[int, ...] | None:
    """The ids in `0,3,4,7`, `0`, `cuda:1` or `cuda`; None for auto, cpu, mps and ''.

    Raises ConfigError for anything else, and for an id that comes twice.
    """
    wanted = text.strip().lower()
    if wanted in ("", "auto", "cpu", "mps"):
        return None
    listed = wanted.removeprefix("cuda").removeprefix(":") or "0"
    parts = [part.strip() for part in listed.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ConfigError(
            "not a device", where="--device", got=text, expected="auto, cpu, cuda, mps, 0 or 0,3"
        )
    ids = tuple(int(part) for part in parts)
    if len(set(ids)) < len(ids):
        raise ConfigError("a device is listed twice", where="--device", got=text)
    return ids


def wanted_ranks(nproc: int | None, device: str) -> int | None:
    """The ranks that `compute.nproc` and `compute.device` ask for; None if neither says.

    Raises ConfigError when they contradict each other.
    """
    ids = listed_devices(device)
    listed = None if ids is None or len(ids) == 1 else len(ids)
    if nproc is not None and listed is not None and nproc != listed:
        raise ConfigError(
            "each rank has one device",
            where="--nproc",
            got=f"{nproc} ranks, {listed} devices ({device})",
            expected="as many ranks as devices, or one of the two flags",
        )
    return listed if nproc is None else nproc
