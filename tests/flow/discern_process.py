"""The command line as a stranger uses it: a child process, and folders of small real images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from warm_child import WarmChild, environment, fits_warm

# What every failure carries under --json, in this order (DESIGN 6).
ERROR_FIELDS = ("kind", "what", "where", "got", "expected", "hint")
# A network of a few thousand weights and one pass: a training that lasts under a second.
QUICK = ("--model", "mlp", "--epochs", "1", "--device", "cpu", "--precision", "fp32")

# The commands that spend most of their time on imports: those that become a worker, which loads
# torch, and those on data (numpy, pyarrow, Pillow). The others start in no time.
IMPORTS_MUCH = {
    *("train", "lr-find", "kfold", "eval", "predict", "models", "bench", "data"),
    *("calibrate", "thresholds", "review", "autolabel", "explain", "embed", "index", "project"),
    "report",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a `discern` child ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def object(self) -> dict[str, Any]:
        """The one JSON object on stdout; fails if there is anything beside it."""
        value = json.loads(self.stdout)
        if not isinstance(value, dict):
            raise TypeError(self.stdout)
        return value

    @property
    def error(self) -> dict[str, str | None]:
        """The failure of a child with `--json`, told on stdout and, for people, on stderr."""
        value = self.object
        if list(value) != ["error"] or tuple(value["error"]) != ERROR_FIELDS:
            raise ValueError(self.stdout)
        told: dict[str, str | None] = value["error"]
        label = "stopped:" if told["kind"] == "interrupted" else "error:"
        if f"{label} {told['what']}" not in self.stderr or "Traceback" in self.stderr:
            raise ValueError(self.stderr)
        return told


def discern(
    *arguments: str | os.PathLike[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    prefix: Sequence[str] = (),
    timeout: float = 120,
    cold: bool = False,
) -> Ended:
    """Run `discern ARGUMENTS` in a child; `prefix` is a command that starts it in its turn.

    `cold`: in a new interpreter, not forked from the warm parent (see `start`).
    """
    child = start(*arguments, cwd=cwd, env=env, prefix=prefix, cold=cold)
    try:
        stdout, stderr = child.communicate(stdin, timeout=timeout)
    except BaseException:
        child.kill()
        child.wait()
        raise
    return Ended(child.returncode, stdout, stderr)


def start(
    *arguments: str | os.PathLike[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    cold: bool = False,
) -> subprocess.Popen[str] | WarmChild:
    """Start `discern ARGUMENTS` in a child with pipes as its streams.

    Of a command that imports much, the child is forked from a parent that has imported everything,
    which saves most of its time. `cold`, after a `prefix`, with variables that imports may read,
    off Linux, and all with $DISCERN_TEST_COLD set, it is a new interpreter.
    """
    words = [*map(os.fspath, arguments)]
    whole = environment(**(env or {}))
    slow_to_start = bool(words) and (words[0] in IMPORTS_MUCH or words[:2] == ["runs", "rerun"])
    if slow_to_start and not cold and not prefix and fits_warm(whole):
        return WarmChild(words, cwd or Path.cwd(), whole)
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "discern.cli.main", *words],
        cwd=cwd,
        env=whole,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def picture(label: int, number: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """A colored, noisy image of (width, height) `size` whose color tells its label."""
    rng = np.random.default_rng(1000 * label + number)
    base = np.zeros((size[1], size[0], 3), dtype=np.int64)
    base[..., label % 3] = 160
    base[..., (label // 3 + 1) % 3] += 40 * (label // 3)
    return Image.fromarray((base + rng.integers(0, 60, base.shape)).clip(0, 255).astype(np.uint8))


def make_images(
    root: Path,
    classes: Sequence[str] = ("ant", "bee"),
    each: int = 6,
    size: tuple[int, int] = (16, 16),
    first: int = 0,
) -> Path:
    """A folder root/CLASS/NN.jpg of real JPEGs; gives `root`."""
    for label, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + each):
            picture(label, number, size).save(folder / f"{number:02d}.jpg", quality=90)
    return root


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A CSV with the keys of the first row as its header."""
    columns = list(rows[0])
    lines = [",".join(columns), *(",".join(str(row[c]) for c in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run_record(ended: Ended) -> dict[str, Any]:
    """The run.json of the run that a `discern train --json` child made."""
    path = Path(ended.object["path"]) / "run.json"
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
