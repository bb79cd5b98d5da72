"""Feature parity: which tests cover which feature of the five systems that Discern replaces.

Owns the list `features.csv` (an id, a title, `open` or `not_applicable` with its reason), the
search of the test files for `@pytest.mark.feature("MX-30")`, and the text of `docs/parity.md`.
Marks are read from the syntax trees, so nothing has to run and no test can hide by being skipped.
"""

from __future__ import annotations

import ast
import csv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "parity.md"
FEATURES = Path(__file__).with_name("features.csv")

SYSTEMS = {
    "MX": "Apache MXNet image-classification example",
    "LA": "Lambda Labs deep learning demo suite",
    "CA": "Catalyst.Classification and Autolabel",
    "LB": "LabML lab, MNIST tutorial",
    "ML": "MLSteam classification template and platform",
    "PP": "Pain points reported by their users",
}


class ParityError(ValueError):
    """A mark or a row of the feature list that cannot be used, with its place."""


@dataclass(frozen=True)
class Feature:
    """One feature: its id, its title, and why it is out of scope ("" when it is not)."""

    id: str
    title: str
    out_of_scope: str


@dataclass(frozen=True)
class Mark:
    """One use of `pytest.mark.feature`: the id, the test, and the opt-in marker it needs."""

    id: str
    test: str
    opt_in: str


def read_features(path: Path = FEATURES) -> list[Feature]:
    """The features in file order; raises ParityError for a double id or a wrong status."""
    features: dict[str, Feature] = {}
    with open(path, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            reason = row["reason"]
            if row["status"] not in ("open", "not_applicable"):
                raise ParityError(f"{path.name}: {row['id']} has status '{row['status']}'")
            if bool(reason) != (row["status"] == "not_applicable"):
                raise ParityError(f"{path.name}: {row['id']} needs a reason exactly when excluded")
            if row["id"] in features:
                raise ParityError(f"{path.name}: {row['id']} stands twice")
            features[row["id"]] = Feature(row["id"], row["title"], reason)
    return list(features.values())


def find_marks(folder: Path = ROOT / "tests") -> list[Mark]:
    """Every feature mark in the test files below `folder`, in path and line order."""
    marks: list[Mark] = []
    for path in sorted(folder.rglob("test_*.py")):
        relative = path.relative_to(folder.parent).as_posix()
        marks += marks_of(path.read_text(encoding="utf-8"), relative)
    return marks


def marks_of(text: str, place: str) -> list[Mark]:
    """The marks in one test file; raises ParityError where a mark cannot be read."""
    tree = ast.parse(text)
    marks: list[Mark] = []
    understood: set[int] = set()
    for node, names in _tests(tree):
        found = [(call, _mark_ids(call, place)) for call in _feature_calls(node.decorator_list)]
        understood |= {id(call.func) for call, _ in found}
        if found and (_has_mark(node, "skip") or _has_mark(node, "xfail")):
            raise ParityError(f"{place}:{node.lineno}: a test that does not run covers nothing")
        opt_in = "slow" if _has_mark(node, "slow") else "gpu" if _has_mark(node, "gpu") else ""
        test = "::".join([place, *names])
        marks += [Mark(feature, test, opt_in) for _, ids in found for feature in ids]
    for node in ast.walk(tree):
        if _is_feature_mark(node) and id(node) not in understood:
            raise ParityError(
                f"{place}:{node.lineno}: write the mark as a decorator of a test function or class"
            )
    return marks


def _tests(tree: ast.Module) -> list[tuple[ast.FunctionDef | ast.ClassDef, list[str]]]:
    """Test functions and test classes with their qualified names."""
    found: list[tuple[ast.FunctionDef | ast.ClassDef, list[str]]] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found.append((node, [node.name]))
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            found.append((node, [node.name]))
            found += [
                (item, [node.name, item.name])
                for item in node.body
                if isinstance(item, ast.FunctionDef) and item.name.startswith("test_")
            ]
    return found


def _is_feature_mark(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node).endswith("mark.feature")


def _feature_calls(decorators: list[ast.expr]) -> list[ast.Call]:
    """The decorators `@pytest.mark.feature(...)`."""
    return [d for d in decorators if isinstance(d, ast.Call) and _is_feature_mark(d.func)]


def _mark_ids(call: ast.Call, place: str) -> list[str]:
    ids = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if not ids or len(ids) != len(call.args) or call.keywords:
        raise ParityError(f"{place}:{call.lineno}: the mark takes ids as plain strings")
    return ids


def _has_mark(node: ast.FunctionDef | ast.ClassDef, name: str) -> bool:
    plain = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return any(ast.unparse(mark).endswith(f"mark.{name}") for mark in plain)


def write_page(features: list[Feature], marks: list[Mark]) -> str:
    """The Markdown text of `docs/parity.md`.

    Raises ParityError for a mark that names an unknown id or one that is out of scope.
    """
    by_id: dict[str, list[Mark]] = {feature.id: [] for feature in features}
    for mark in marks:
        if mark.id not in by_id:
            raise ParityError(f"{mark.test}: unknown feature id '{mark.id}'")
        by_id[mark.id].append(mark)
    for feature in features:
        if feature.out_of_scope and by_id[feature.id]:
            raise ParityError(f"{by_id[feature.id][0].test}: {feature.id} is out of scope")
    lines = [
        "# Feature parity",
        "",
        "Every feature of the five systems that Discern replaces, and the tests that cover it.",
        "Made from the marks in the tests by `python tests/parity/write_parity.py`; do not edit.",
        "",
        *_counts(features, by_id),
    ]
    for prefix, system in SYSTEMS.items():
        lines += [
            "",
            f"## {system} ({prefix})",
            "",
            "| id | feature | where it stands |",
            "|---|---|---|",
        ]
        lines += [
            f"| {feature.id} | {feature.title} | {_standing(feature, by_id[feature.id])} |"
            for feature in features
            if feature.id.startswith(f"{prefix}-")
        ]
    return "\n".join(lines) + "\n"


def _counts(features: list[Feature], by_id: dict[str, list[Mark]]) -> list[str]:
    lines = ["| system | ids | covered | not applicable | open |", "|---|---:|---:|---:|---:|"]
    for prefix in [*SYSTEMS, "all"]:
        chosen = [f for f in features if prefix == "all" or f.id.startswith(f"{prefix}-")]
        covered = sum(bool(by_id[f.id]) for f in chosen)
        excluded = sum(bool(f.out_of_scope) for f in chosen)
        rest = len(chosen) - covered - excluded
        lines.append(f"| {prefix} | {len(chosen)} | {covered} | {excluded} | {rest} |")
    return lines


def _standing(feature: Feature, marks: list[Mark]) -> str:
    if feature.out_of_scope:
        return f"not applicable: {feature.out_of_scope}"
    if not marks:
        return "open"
    tests = dict.fromkeys(f"`{m.test}`" + (f" ({m.opt_in})" if m.opt_in else "") for m in marks)
    return "<br>".join(tests)
