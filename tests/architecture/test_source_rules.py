"""What the source may not hold: asserts, unsafe readers, vague names, machine paths."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from source_tree import SOURCE, Module, modules, parse, project_texts

VAGUE_NAMES = frozenset(
    {"util", "utils", "helper", "helpers", "common", "misc"}
    | {"manager", "managers", "handler", "handlers"}
)
UNSAFE_MODULES = frozenset({"pickle", "cPickle", "joblib", "cloudpickle", "dill", "shelve"})
UNSAFE_CALLS = frozenset({"torch.load", "torch.save", "numpy.load"})
UNSAFE_BUILTINS = frozenset({"eval", "exec", "compile"})

# Written in pieces, so that this file does not find itself.
MACHINE_PATHS = re.compile(r"(?:^|[^A-Za-z0-9_.])/(?:work|farm|root|Users|home)/\w", re.MULTILINE)
REGISTRY_HOSTS = re.compile(r"(?:extra-)?index-url|(?:pypi|files)\.pythonhosted|/simple/\S*pip")


def asserts(module: Module) -> Iterator[str]:
    """`assert` vanishes under -O and speaks to nobody: raise an error of discern.base.errors."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert):
            yield f"{module.at(node)} assert"


def relative_imports(module: Module) -> Iterator[str]:
    """Imports that do not name the whole module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{module.at(node)} relative import"


def vague_names(module: Module) -> Iterator[str]:
    """Modules and packages not named for the noun that they own."""
    for part in module.name.split("."):
        if VAGUE_NAMES & set(part.split("_")):
            yield f"{module.name}: name a module for the noun it owns, not '{part}'"


def unsafe_imports(module: Module) -> Iterator[str]:
    """Readers that can run what they read."""
    for node in ast.walk(module.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.split(".")[0] in UNSAFE_MODULES:
                yield f"{module.at(node)} import of {name}"


def unsafe_calls(module: Module) -> Iterator[str]:
    """eval, exec, torch.load and torch.save, and numpy.load that may unpickle."""
    aliases = _import_aliases(module.tree)
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = _full_name(node.func, aliases)
        if name in UNSAFE_BUILTINS:
            yield f"{module.at(node)} {name}()"
        elif name in UNSAFE_CALLS - {"numpy.load"}:
            yield f"{module.at(node)} {name}"
        for keyword in node.keywords:
            if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                yield f"{module.at(node)} {name}(allow_pickle=...)"


def hidden_imports(module: Module) -> Iterator[str]:
    """Modules opened by a literal name, which the import contracts cannot see."""
    aliases = _import_aliases(module.tree)
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Call)
            and _full_name(node.func, aliases) in ("importlib.import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield f"{module.at(node)} write an import statement, inside the function if it is dear"


def _import_aliases(tree: ast.Module) -> dict[str, str]:
    """Local name -> full dotted name, for every import of the module."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    aliases[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return aliases


def _full_name(node: ast.expr, aliases: dict[str, str]) -> str:
    """`np.load` as `numpy.load`; "" for what is no plain name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    parts.append(aliases.get(node.id, node.id))
    return ".".join(reversed(parts))


CHECKS = [asserts, relative_imports, vague_names, unsafe_imports, unsafe_calls, hidden_imports]


@pytest.mark.parametrize("check", CHECKS)
def test_source_keeps_the_rule(check):
    offenders = [offender for module in modules() for offender in check(module)]
    assert not offenders, "\n".join(offenders)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (asserts, "assert x"),
        (relative_imports, "from . import names"),
        (unsafe_imports, "import joblib"),
        (unsafe_imports, "def f():\n    from pickle import loads"),
        (unsafe_calls, "eval('1')"),
        (unsafe_calls, "import torch as t\nt.load('x')"),
        (unsafe_calls, "from torch import load\nload('x')"),
        (unsafe_calls, "import numpy as np\nnp.load('x', allow_pickle=True)"),
        (hidden_imports, "import importlib\nimportlib.import_module('torch')"),
        (hidden_imports, "from importlib import import_module as load\nload('torch')"),
    ],
)
def test_each_rule_finds_a_planted_fault(check, text):
    assert len(list(check(parse(SOURCE / "discern" / "planted.py", text)))) == 1


@pytest.mark.parametrize("name", ["io_utils", "common", "run_manager"])
def test_vague_module_name_is_found(name):
    assert len(list(vague_names(parse(SOURCE / "discern" / f"{name}.py", "")))) == 1


@pytest.mark.parametrize(
    "text",
    ["model.eval()", "import numpy as np\nnp.load('x', allow_pickle=False)", "os.execv(a, b)"],
)
def test_lookalikes_are_allowed(text):
    assert list(unsafe_calls(parse(SOURCE / "discern" / "planted.py", text))) == []


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRY_HOSTS])
def test_no_text_names_one_machine(pattern):
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1} {match.group().strip()}"
        for name, text in project_texts()
        for match in pattern.finditer(text)
        if name != "tests/architecture/test_source_rules.py"
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", ["work", "root", "home"])
def test_machine_path_is_recognized(folder):
    assert MACHINE_PATHS.search(f"read /{folder}/data/x.jpg")
    assert not MACHINE_PATHS.search(f"read my/{folder}/data/x.jpg")
