"""Small and whole: modules, functions, constructors and classes stay within their limits."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from source_tree import SOURCE, Module, modules, parse

MODULE_LINES = 400
FUNCTION_LINES = 60
CONSTRUCTOR_ARGUMENTS = 8
PUBLIC_METHODS = 12


def long_modules(module: Module) -> Iterator[str]:
    """The module itself, when it has too many lines."""
    lines = len(module.text.splitlines())
    if lines > MODULE_LINES:
        yield f"{module.name}: {lines} lines, at most {MODULE_LINES}"


def long_functions(module: Module) -> Iterator[str]:
    """Functions with too many lines, decorators left out."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{module.at(node)} {node.name}: {lines} lines, at most {FUNCTION_LINES}"


def wide_constructors(module: Module) -> Iterator[str]:
    """Constructors with too many arguments; a frozen keyword-only dataclass may have more."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        count = _init_arguments(node)
        options = _dataclass_options(node)
        if options is not None and not {"frozen", "kw_only"} <= options:
            count = max(count, _field_count(node))
        if count > CONSTRUCTOR_ARGUMENTS:
            yield (
                f"{module.at(node)} {node.name}: {count} constructor arguments, at most "
                f"{CONSTRUCTOR_ARGUMENTS} (else a frozen keyword-only dataclass)"
            )


def crowded_classes(module: Module) -> Iterator[str]:
    """Classes with too many public methods; properties and hooks (before_*, after_*) apart."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            methods = {
                item.name
                for item in node.body
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
                and not item.name.startswith(("_", "before_", "after_"))
                and not any("property" in ast.unparse(mark) for mark in item.decorator_list)
            }
            if len(methods) > PUBLIC_METHODS:
                yield f"{module.at(node)} {node.name}: {len(methods)} public methods"


def _init_arguments(node: ast.ClassDef) -> int:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            arguments = item.args
            given = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
            return given - 1
    return 0


def _dataclass_options(node: ast.ClassDef) -> set[str] | None:
    """Names of the options that are on, or None if the class is no dataclass."""
    for mark in node.decorator_list:
        call = mark.func if isinstance(mark, ast.Call) else mark
        if ast.unparse(call).rpartition(".")[2] == "dataclass":
            keywords = mark.keywords if isinstance(mark, ast.Call) else []
            return {str(k.arg) for k in keywords if ast.unparse(k.value) == "True"}
    return None


def _field_count(node: ast.ClassDef) -> int:
    return sum(
        isinstance(item, ast.AnnAssign)
        and "ClassVar" not in ast.unparse(item.annotation)
        and not (item.value is not None and "init=False" in ast.unparse(item.value))
        for item in node.body
    )


CHECKS = [long_modules, long_functions, wide_constructors, crowded_classes]


@pytest.mark.parametrize("check", CHECKS)
def test_source_stays_small(check):
    offenders = [offender for module in modules() for offender in check(module)]
    assert not offenders, "\n".join(offenders)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (long_modules, "x = 1\n" * 401),
        (long_functions, "def f():\n" + "    x = 1\n" * 60),
        (
            wide_constructors,
            "class C:\n    def __init__(self, a, b, c, d, e, f, *, g, h, i): ...\n",
        ),
        (
            wide_constructors,
            "@dataclass(frozen=True)\nclass C:\n" + "".join(f"    f{k}: int\n" for k in range(9)),
        ),
        (crowded_classes, "class C:\n" + "".join(f"    def m{k}(self): ...\n" for k in range(13))),
    ],
)
def test_each_size_check_names_the_offender(check, text):
    assert len(list(check(parse(SOURCE / "discern" / "planted.py", text)))) == 1


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (long_modules, "x = 1\n" * 400),
        (long_functions, "def f():\n" + "    x = 1\n" * 59),
        (wide_constructors, "class C:\n    def __init__(self, a, b, c, d, e, f, *, g, h): ...\n"),
        (
            wide_constructors,
            "@dataclass(frozen=True, kw_only=True)\nclass C:\n"
            + "".join(f"    f{k}: int\n" for k in range(9)),
        ),
        (crowded_classes, "class C:\n" + "".join(f"    def _m{k}(self): ...\n" for k in range(13))),
    ],
)
def test_each_size_check_allows_the_limit(check, text):
    assert list(check(parse(SOURCE / "discern" / "planted.py", text))) == []
