"""Opening a thing by name: `package.module:name` or `./my_file.py:name`.

Importing a Discern module registers nothing; what is wanted is named and opened here.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean

_DISCERN = str(Path(__file__).resolve().parents[1])
_opened: dict[str, str] = {}


def is_import_path(text: str) -> bool:
    """True for `package.module:name` and `path/to/file.py:name`."""
    module, colon, name = text.rpartition(":")
    return bool(colon and module and name.isidentifier())


def open_import_path(text: str, *, where: str) -> Any:
    """The object that `text` names.

    Raises ConfigError, naming `where`, if the module, the file or the name is not there.
    """
    module_name, _, name = text.rpartition(":")
    module = _open_module(module_name, text, where)
    try:
        found = getattr(module, name)
    except AttributeError:
        raise ConfigError(
            f"'{module_name}' has no '{name}'",
            where=where,
            got=text,
            hint=did_you_mean(name, [n for n in dir(module) if not n.startswith("_")]),
        ) from None
    for home in (module, sys.modules.get(getattr(found, "__module__", None) or "")):
        file = getattr(home, "__file__", None)
        if file is not None and not file.startswith(_DISCERN):
            _opened.setdefault(file, text)
    return found


def opened_files() -> dict[str, str]:
    """The files of others' code that this process opened parts from, each with a part's path."""
    return dict(_opened)


def path_of(kind: type[object]) -> str:
    """The import path of a class of others: by the file that it was opened from, or its module."""
    file = _file_of(kind)
    home = _opened.get(file, "").rpartition(":")[0]
    same_file = home.endswith(".py") and Path(home).resolve() == Path(file).resolve()
    return f"{home if same_file else kind.__module__}:{kind.__name__}"


def _file_of(kind: type[object]) -> str:
    """The file of a class: by its functions, for of two files of one name one is in sys.modules."""
    for member in vars(kind).values():
        code = getattr(member, "__code__", None)
        if code is not None:
            return str(code.co_filename)
    return getattr(sys.modules.get(kind.__module__), "__file__", None) or ""


def _open_module(module_name: str, text: str, where: str) -> Any:
    if module_name.endswith(".py"):
        path = Path(module_name)
        if not path.is_file():
            raise ConfigError("no such Python file", where=where, got=text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ConfigError("not a Python file", where=where, got=text)
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        spec.loader.exec_module(module)
        return module
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"cannot import '{module_name}': {error}",
            where=where,
            got=text,
            expected="package.module:name or ./my_file.py:name",
        ) from error


def check_arguments(
    target: Callable[..., Any],
    arguments: dict[str, Any],
    *,
    where: str,
    given: tuple[str, ...] = (),
) -> None:
    """Check keyword `arguments` against the signature of `target` without calling it.

    `given` names the parameters that Discern itself fills in. Raises ConfigError for an unknown,
    doubly given or missing argument, naming the nearest one, and for what cannot be called.
    """
    if not callable(target):
        raise ConfigError("this name cannot be called", where=where, got=type(target).__name__)
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    allowed = [
        name
        for name, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in given
    ]
    for name in arguments:
        if name in given:
            raise ConfigError(f"argument '{name}' is set by Discern itself", where=where)
        if name not in allowed and not open_ended:
            raise ConfigError(
                f"unknown argument '{name}'",
                where=where,
                got=name,
                expected=", ".join(allowed) or "no arguments",
                hint=did_you_mean(name, allowed),
            )
    for name in allowed:
        if parameters[name].default is inspect.Parameter.empty and name not in arguments:
            raise ConfigError(f"argument '{name}' is missing", where=where, expected=name)


def check_takes(target: Callable[..., Any], given: tuple[str, ...], *, where: str) -> None:
    """Raise ConfigError if `target` cannot be called with what Discern gives it by name."""
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    lacking = [name for name in given if name not in parameters]
    if lacking:
        raise ConfigError(
            f"it does not take {', '.join(lacking)}, which Discern gives it",
            where=where,
            got=f"({', '.join(parameters)})",
            expected=f"({', '.join(given)}) and arguments of its own",
        )
