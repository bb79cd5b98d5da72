"""The import contracts of pyproject.toml hold."""

from __future__ import annotations

import subprocess
import sys

from source_tree import ROOT, SOURCE


def test_import_contracts_hold():
    # A child: the linter reads the package from sys.path and sets up logging for its process.
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        "from importlinter.cli import lint_imports\n"
        "sys.exit(lint_imports(no_cache=True))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stdout[-4000:] + child.stderr[-2000:]
