"""Trainings that a test starts to end them: a folder of runs, and its children's ends."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from discern_process import start
from warm_child import WarmChild

from discern.track.run import Run, open_run
from discern.training.checkpoints import checkpoint_step

PATIENCE_S = 180.0
POLL_S = 0.002


@dataclass
class Root:
    """A folder of runs, and the children that were started to write into it."""

    path: Path
    children: list[subprocess.Popen[str] | WarmChild] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str] | WarmChild:
        """A `discern train` child; it becomes the worker, so its pid is the worker's."""
        own = {"DISCERN_RUNS": str(self.path), "DISCERN_CACHE": str(self.path.parent / "cache")}
        child = start("train", *words, env=own, cwd=self.path.parent)
        self.children.append(child)
        return child

    def train(self, *words: str) -> tuple[int, str, str]:
        """Run `discern train` to its end: (exit code, stdout, stderr)."""
        child = self.start(*words)
        out, err = child.communicate(timeout=PATIENCE_S)
        return child.returncode, out, err

    def finish(self, *words: str) -> str:
        """Run `discern train`, which must succeed; gives its stdout."""
        code, out, err = self.train(*words)
        assert code == 0, err
        return out

    def run(self, name: str | None = None) -> Run:
        """The run of that name; without one, the only one."""
        folders = [path.parent for path in self.path.glob("*/*/run.json")]
        found = [path for path in folders if name in (None, path.name)]
        assert len(found) == 1, folders
        return open_run(str(found[0]), self.path)

    def names(self) -> set[str]:
        return {path.parent.name for path in self.path.glob("*/*/run.json")}

    def steps(self) -> set[int]:
        """The steps of the only run's checkpoints; none before there is a run."""
        found = (checkpoint_step(path) for path in self.path.glob("*/*/checkpoints/step-*"))
        return {step for step in found if step is not None}

    def end_children(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()


def wait_until(child: subprocess.Popen[str] | WarmChild, happened: Callable[[], bool]) -> None:
    """Return as soon as `happened`; a child that ends before, or takes too long, is a failure."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        ended = child.poll()
        assert ended is None, f"ended with {ended} before it happened: {child.communicate()}"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(POLL_S)


def kill_when(root: Root, words: tuple[str, ...], happened: Callable[[], bool]) -> str:
    """Start the command, `kill -9` it once `happened`; gives what it had printed."""
    child = root.start(*words)
    wait_until(child, happened)
    child.kill()
    out, _ = child.communicate()
    assert child.returncode == -signal.SIGKILL
    return out


def past(root: Root, step: int) -> Callable[[], bool]:
    """Whether there is a checkpoint of `step` or later."""
    return lambda: any(found >= step for found in root.steps())
