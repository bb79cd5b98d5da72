"""Start-up: what a command costs before its work begins, beside what cannot be avoided.

Whole processes, interleaved: `python -c pass` is the floor of the light commands, `python -c
"import torch"` and `"import timm"` those of the commands that compute. `models show` and `predict`
are run as the user types them: the light process parses, then becomes the worker. The model is an
`mlp` trained here for one epoch on the built-in digits, and one image is predicted.

    python -m benchmarks.start_up
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import discern

PYTHON = sys.executable
DISCERN = str(Path(sys.executable).with_name("discern"))
LIGHT = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import discern": [PYTHON, "-c", "import discern"],
    "discern --help": [DISCERN, "--help"],
    "discern train --help": [DISCERN, "train", "--help"],
}
# Wall seconds on a quiet machine, and the multiple of the floor's CPU seconds.
GOALS_S = {"import discern": 0.1, "discern --help": 0.2}
GOALS_RATIO = {
    "models show fast_net / import torch": 1.1,
    "predict / import torch": 1.1,
    "models show resnet18 / import timm": 1.1,
}


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of the children: their own cache, runs and home."""
    return {
        **os.environ,
        "HOME": str(folder),
        "DISCERN_CACHE": str(folder / "cache"),
        "DISCERN_RUNS": str(folder / "runs"),
    }


def run_once(command: list[str], folder: Path) -> tuple[float, float]:
    """(wall, CPU) seconds of `command` from start to exit. Raises RuntimeError if it fails."""
    with (folder / "errors.txt").open("w+b") as errors:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            cwd=folder, env=surroundings(folder),
        )  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            errors.seek(0)
            raise RuntimeError(f"{command} failed:\n{errors.read().decode()[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime


def make_commands(folder: Path) -> dict[str, list[str]]:
    """All commands by their short names; trains the small model that `predict` opens."""
    import numpy as np
    from PIL import Image

    image = folder / "digit.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(image)
    train = [DISCERN, "train", "digits", "--model", "mlp", "--epochs", "1", "--quiet"]
    run_once(train, folder)
    [bundle] = sorted((folder / "runs").glob("*/*/model")) or sorted(
        (folder / "runs").glob("*/model")
    )
    return {
        **LIGHT,
        "import torch": [PYTHON, "-c", "import torch"],
        "import timm": [PYTHON, "-c", "import timm"],
        "models show fast_net": [DISCERN, "models", "show", "fast_net"],
        "predict": [DISCERN, "predict", str(bundle.parent), str(image)],
        "models show resnet18": [DISCERN, "models", "show", "resnet18"],
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(rounds: int, only: list[str]) -> dict[str, dict[str, list[float]]]:
    """Wall and CPU seconds of each command, one of each a round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = make_commands(folder)
        if only:
            commands = {key: commands[key] for key in only}
        seconds: dict[str, dict[str, list[float]]] = {
            key: {"wall": [], "cpu": []} for key in commands
        }
        for command in commands.values():
            run_once(command, folder)  # compiled modules and files come from the page cache
        for _ in range(rounds):
            for key, command in commands.items():
                wall, cpu = run_once(command, folder)
                seconds[key]["wall"].append(wall)
                seconds[key]["cpu"].append(cpu)
    return seconds


def show(seconds: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Print the table; gives the ratios of CPU seconds, taken round by round."""
    print(f"{'seconds':<22} {'wall':>7} {'(range)':>17} {'CPU':>8} {'(range)':>17}   goal, wall")
    for key, of in seconds.items():
        wall, cpu = summary(of["wall"]), summary(of["cpu"])
        goal = f"{GOALS_S[key]:.1f}" if key in GOALS_S else ""
        print(
            f"{key:<22} {wall['median']:7.3f}  ({wall['min']:6.3f} to {wall['max']:6.3f})"
            f" {cpu['median']:7.3f}  ({cpu['min']:6.3f} to {cpu['max']:6.3f})   {goal}"
        )
    ratios = {}
    for name, most in GOALS_RATIO.items():
        ours, floor = name.split(" / ")
        if ours not in seconds or floor not in seconds:
            continue
        pairs = zip(seconds[ours]["cpu"], seconds[floor]["cpu"], strict=True)
        ratios[name] = row = summary([a / b for a, b in pairs])
        print(
            f"{name:<38} {row['median']:.2f}x of CPU ({row['min']:.2f} to {row['max']:.2f};"
            f" goal {most})"
        )
    return ratios


def main() -> None:
    """Time the commands interleaved; print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", action="append", default=[], help="a row's name; repeatable")
    given = parser.parse_args()
    rounds = given.rounds
    seconds = measure(rounds, given.only)
    ratios = show(seconds)
    print(json.dumps({
        "benchmark": "start_up", "rounds": rounds, "python": platform.python_version(),
        "discern": discern.__version__,
        "results": {key: {kind: summary(values) for kind, values in of.items()}
                    for key, of in seconds.items()},
        "ratios_cpu": ratios, "goals_s": GOALS_S, "goals_ratio": GOALS_RATIO,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
