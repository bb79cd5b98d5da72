"""`discern import PATH...`: runs that other programs recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from discern.base.console import Console
from discern.base.errors import CHECK_FAILED, OK, ConfigError, DataError
from discern.cli.options import JsonFlag, RunsFlag


def import_runs(
    paths: Annotated[
        list[str], typer.Argument(help="folders of Catalyst, lab, timm, Ultralytics, TensorBoard")
    ],
    project: Annotated[
        str | None, typer.Option("--project", help="default: the name of the folder above")
    ] = None,
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """Read the runs in folders into the store; a run is never there twice."""
    from discern.config.yaml_text import read_document
    from discern.track.imported.forms import find_folders, form_of, read_form
    from discern.track.imported.importing import store_run
    from discern.track.run import runs_root

    console, root = Console(json=json), runs_root(runs)
    told: list[dict[str, Any]] = []
    problems: list[str] = []
    for text in paths:
        folders = list(find_folders(_folder(text)))
        if not folders:
            raise DataError(
                "there is no run here that can be read",
                where=text,
                expected="a Catalyst log folder, a lab run folder, event files of TensorBoard, "
                "timm's summary.csv or Ultralytics' results.csv, at most four folders below",
            )
        for folder in folders:
            foreign = read_form(
                form_of(folder) or "", folder, lambda path: dict(read_document(path).value or {})
            )
            problems += foreign.problems
            for problem in foreign.problems:
                console.warn(problem)
            if not foreign.series:
                problems.append(f"{folder}: no figures")
                console.warn(f"{folder}: no figures: nothing is imported")
                continue
            stored = store_run(foreign, root, project or folder.parent.name or foreign.form)
            console.say(
                f"{stored.run:<40} {foreign.form}, {len(foreign.series)} series: {stored.outcome}"
            )
            told.append(
                {
                    "run": stored.run,
                    "form": foreign.form,
                    "source": str(folder),
                    "outcome": stored.outcome,
                    "series": len(foreign.series),
                    "problems": foreign.problems,
                }
            )
    console.emit({"runs": told, "problems": problems})
    return CHECK_FAILED if problems else OK


def _folder(text: str) -> Path:
    """The folder meant: of a table or an event file that it lies in. Raises ConfigError."""
    path = Path(text).expanduser().absolute()
    if path.is_file():
        return path.parent
    if not path.is_dir():
        raise ConfigError("there is no such folder", where="discern import", got=text)
    return path
