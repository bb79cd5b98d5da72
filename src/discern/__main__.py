"""`python -m discern`: the command line where no console script is on the path."""

from __future__ import annotations

from discern.cli.main import run

if __name__ == "__main__":
    run()
