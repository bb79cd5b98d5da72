"""What a process and all its descendants take: CPU time, memory, bytes read and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Taken:
    """`cpu_s`, `read_bytes`, `written_bytes`: since the sample before; `memory_bytes`: now.

    Reads and writes are those that reached a disk; None where the system does not tell.
    """

    cpu_s: float
    memory_bytes: int
    read_bytes: int | None
    written_bytes: int | None


class ProcessTree:
    """The process `pid` and its descendants; ask from one thread."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._known: dict[int, psutil.Process] = {}
        self._before: dict[int, tuple[float, int, int]] = {}
        self.sample()  # from here on

    def sample(self) -> Taken:
        """What was taken since the sample before. Processes that ended in between are left out."""
        cpu_s, memory, read, written = 0.0, 0, 0, 0
        tells_disk = True
        now: dict[int, tuple[float, int, int]] = {}
        known: dict[int, psutil.Process] = {}
        for pid in self._pids():
            try:
                process = self._known.get(pid) or psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    memory += process.memory_info().rss
                    counted = _disk_bytes(process)
            except psutil.Error:
                continue  # it has ended, or is another user's
            known[pid] = process
            tells_disk = tells_disk and counted is not None
            now[pid] = (times.user + times.system, *(counted or (0, 0)))
            before = self._before.get(pid, (0.0, 0, 0))
            cpu_s += max(0.0, now[pid][0] - before[0])
            read += max(0, now[pid][1] - before[1])
            written += max(0, now[pid][2] - before[2])
        self._known, self._before = known, now
        if not tells_disk:
            return Taken(cpu_s, memory, None, None)
        return Taken(cpu_s, memory, read, written)

    def _pids(self) -> list[int]:
        """The process and its descendants, through Linux's lists of children where it has them."""
        if not Path(f"/proc/{self._pid}/task/{self._pid}/children").exists():
            try:
                children = psutil.Process(self._pid).children(recursive=True)
            except psutil.Error:
                return []
            return [self._pid, *(child.pid for child in children)]
        found, waiting = [], [self._pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += _children(pid)
        return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_bytes().split())
    except OSError:
        pass  # it has ended
    return children


def _disk_bytes(process: psutil.Process) -> tuple[int, int] | None:
    counters: Any = getattr(process, "io_counters", None)
    if counters is None:
        return None
    try:
        counted = counters()
    except (psutil.Error, OSError):
        return None
    return counted.read_bytes, counted.write_bytes
