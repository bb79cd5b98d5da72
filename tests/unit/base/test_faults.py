"""Whose fault an exception is, and that what a part prints stays out of the one JSON object."""

from __future__ import annotations

from pathlib import Path

import pytest

from discern.base.console import Console
from discern.base.errors import ConfigError, InternalError, PartError
from discern.base.faults import as_told, traceback_text
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments, check_takes, open_import_path

PART = """
def broken(value):
    raise KeyError(value)


def asks(check):
    check(3, None)
"""


@pytest.fixture
def part(tmp_path: Path) -> str:
    """The import path's first half of a file of the user's."""
    (tmp_path / "kit.py").write_text(PART)
    return f"{tmp_path}/kit.py"


def _raised(call, *arguments) -> Exception:
    with pytest.raises(Exception, match=None) as caught:
        call(*arguments)
    return caught.value


def test_what_a_part_raises_is_told_as_the_parts_with_its_line(part: str) -> None:
    error = _raised(open_import_path(f"{part}:broken", where="test"), "x")
    told = as_told(error)
    assert isinstance(told, PartError)
    assert (1, "run") == (told.exit_code, told.kind)
    assert told.what == f"a part of your own failed: {part}:broken"
    assert told.where == f"{part}, line 3, in broken"
    assert told.got == "KeyError: 'x'"
    assert "test_faults.py" not in traceback_text(error)
    assert f'"{part}", line 3' in traceback_text(error)


def test_what_discern_raises_under_a_part_is_not_the_parts(part: str) -> None:
    asks = open_import_path(f"{part}:asks", where="test")
    error = _raised(asks, did_you_mean)
    assert isinstance(as_told(error), InternalError)


def test_a_command_tells_a_parts_failure_with_its_traceback(part: str, capsys) -> None:
    error = _raised(open_import_path(f"{part}:broken", where="test"), "x")
    assert Console(json=True).last_door(error) == 1
    out, err = capsys.readouterr()
    assert "a part of your own failed" in out
    assert err.startswith("Traceback")
    assert "fault of Discern" not in err


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be called") as caught:
        check_arguments(3, {}, where="model")  # type: ignore[arg-type]
    assert caught.value.got == "int"


def test_a_builder_that_does_not_take_what_it_is_given_is_refused() -> None:
    def build(num_classes: int, width: int = 8) -> None: ...

    with pytest.raises(ConfigError, match="does not take channels, image_size") as caught:
        check_takes(build, ("num_classes", "channels", "image_size"), where="model")
    assert caught.value.got == "(num_classes, width)"
    check_takes(lambda **given: given, ("channels",), where="model")
