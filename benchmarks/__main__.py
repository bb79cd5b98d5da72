"""Runs the benchmarks one after another: `python -m benchmarks [NAMES] [--rounds N]`.

Run it from the repository root, on a machine that does nothing else. Each benchmark prints a table
and one JSON line; what they measure and how to read it stands in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

NAMES = (
    "small_images",
    "photos",
    "photos_ffcv",
    "packing",
    "data_check",
    "trainer_overhead",
    "step_share",
    "time_to_accuracy",
    "accuracy_curve",
    "tracker_calls",
    "metric_reads",
    "run_lists",
    "recompute",
    "start_up",
    "head_stage",
    "fine_tune",
    "embedding",
    "index_search",
    "near_duplicates",
    "label_review",
    "autolabel",
)
_ON_DATA = (
    "time_to_accuracy",
    "accuracy_curve",
    "small_images",
    "photos",
    "photos_ffcv",
    "packing",
    "data_check",
    "head_stage",
    "fine_tune",
    "embedding",
    "near_duplicates",
    "label_review",
    "accuracy_curve",
    "autolabel",
)


def main() -> int:
    """Run the named benchmarks, or all; gives the first exit code that is not 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAMES", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, help="of each benchmark; default: its own")
    parser.add_argument("--data", help=f"folder of data sets, for {', '.join(_ON_DATA)}")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the load is {load:.1f}: wall times and spreads will show it", file=sys.stderr)
    worst = 0
    for name in given.names or NAMES:
        # A process each: no benchmark runs on the caches, threads or garbage of another.
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if given.rounds:
            command += ["--rounds", str(given.rounds)]
        if given.data and name in _ON_DATA:
            command += ["--data", given.data]
        print(f"== {name}", flush=True)
        worst = worst or subprocess.run(command, check=False).returncode
    return worst


if __name__ == "__main__":
    sys.exit(main())
