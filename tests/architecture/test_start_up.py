"""What start-up may load, checked in child processes, and that every module and name opens."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from source_tree import ROOT, SOURCE, modules

COMPUTE_LIBRARIES = ["torch", "torchvision", "timm"]
HEAVY = [
    *COMPUTE_LIBRARIES,
    *("sklearn", "scipy", "pyarrow", "cv2", "PIL", "sqlalchemy", "fastapi", "tensorboard"),
    *("huggingface_hub", "pydantic", "matplotlib"),
]
LIGHT_TOWER = ["base", "config", "data", "track", "launch", "cli"]

RUN_MODULE = """
import runpy, sys
sys.argv = ["discern", *sys.argv[2:]]
try:
    runpy.run_module("discern", run_name="__main__")
except SystemExit as stop:
    if stop.code:
        raise
"""

IMPORT_ALL = """
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
"""

OPEN_PUBLIC_NAMES = """
import inspect
import discern
names = sorted(discern.__all__)
modules = [name for name in names if inspect.ismodule(getattr(discern, name))]
odd = [n for n in names if n not in modules and not callable(getattr(discern, n))]
report = {"names": names, "modules": modules, "odd": [n for n in odd if not n.startswith("__")]}
"""


REPORT = """
if "report" not in globals():
    report = sorted(sys.modules)
with open(target, "w") as stream:
    json.dump(report, stream)
"""


def child_report(tmp_path, body, *arguments):
    """Run `body` in a fresh interpreter; gives (its `report` or its loaded modules, its output)."""
    target = tmp_path / "report.json"
    code = f"import json, sys\ntarget = sys.argv[1]\n{body}\n{REPORT}"
    child = subprocess.run(
        [sys.executable, "-c", code, str(target), *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-4000:]
    return json.loads(target.read_text()), child.stdout


def loaded(names, wanted):
    """Which of the `wanted` top-level packages are among the loaded modules `names`."""
    return sorted({name.split(".")[0] for name in names} & set(wanted))


# typer reads the values of a command's flags through pydantic, so only the bare help is free of it.
@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [(["--help"], HEAVY), (["train", "--help"], sorted({*HEAVY} - {"pydantic"}))],
    ids=["discern", "discern train"],
)
def test_help_loads_nothing_heavy(tmp_path, arguments, heavy):
    names, output = child_report(tmp_path, RUN_MODULE, *arguments)
    assert "discern" in output
    assert "discern.cli" in names
    assert [] == loaded(names, heavy)


def test_import_discern_loads_nothing_heavy(tmp_path):
    names, _ = child_report(tmp_path, "import discern")
    assert "discern" in names
    assert [] == loaded(names, HEAVY)


def test_light_tower_never_loads_torch(tmp_path):
    light = [name for name in map(_name, modules()) if _floor(name) in LIGHT_TOWER]
    assert {_floor(name) for name in light} == set(LIGHT_TOWER)
    names, _ = child_report(tmp_path, IMPORT_ALL, *_importable(light))
    assert [] == loaded(names, COMPUTE_LIBRARIES)


def test_lab_loads_torch_with_its_pytorch_part_only(tmp_path):
    body = "import discern.lab as lab\nfor name in lab.__all__:\n    getattr(lab, name)\n"
    names, _ = child_report(tmp_path, body.replace("lab.__all__", "set(lab.__all__) - {'pytorch'}"))
    assert {"discern.config.lazy", "discern.lab.experiment", "discern.lab.tracker"} <= set(names)
    assert [] == loaded(names, COMPUTE_LIBRARIES)


def test_every_module_imports_and_every_public_name_opens(tmp_path):
    names = _importable(map(_name, modules()))
    assert len(names) > 10
    report, _ = child_report(tmp_path, IMPORT_ALL + OPEN_PUBLIC_NAMES, *names)
    assert {"train", "load"} <= set(report["names"])
    assert [] == report["modules"], "a package took the name of a public function"
    assert [] == report["odd"], "a public name that is neither function nor class"


def _importable(names):
    """Module names without the `__main__` ones, which run when they are imported."""
    return [name for name in names if not name.endswith("__main__")]


def _name(module):
    return module.name


def _floor(name):
    """`data` for `discern.data.images`; "" for the package itself."""
    return name.partition(".")[2].partition(".")[0]
