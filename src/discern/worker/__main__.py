"""`python -m discern.worker VERB --request FILE [--run DIR]`: does one request and exits."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.plugins import open_import_path
from discern.base.rank_environment import started_ranks
from discern.config.request import Request, read_request
from discern.worker.rank_end import begin_rank, end_rank, leave_process

VERBS = {
    "train": "discern.worker.train:train_verb",
    "eval": "discern.worker.evaluation:evaluation_verb",
    "report": "discern.worker.run_report:report_verb",
    "calibrate": "discern.worker.answer_fitting:calibrate_verb",
    "thresholds": "discern.worker.answer_fitting:thresholds_verb",
    "predict": "discern.worker.prediction:prediction_verb",
    "review": "discern.worker.review:review_verb",
    "explain": "discern.worker.explanation:explanation_verb",
    "embed": "discern.worker.embedding:embedding_verb",
    "project": "discern.worker.projection:projection_verb",
    "index-build": "discern.worker.index_verbs:build_verb",
    "index-check": "discern.worker.index_verbs:check_verb",
    "index-add": "discern.worker.index_verbs:add_verb",
    "index-remove": "discern.worker.index_verbs:remove_verb",
    "index-duplicates": "discern.worker.index_verbs:duplicates_verb",
    "index-outliers": "discern.worker.index_verbs:outliers_verb",
    "index-search": "discern.worker.index_search:search_verb",
    "lr-find": "discern.worker.lr_find:lr_find_verb",
    "kfold": "discern.worker.kfold:kfold_verb",
    "autolabel": "discern.worker.autolabel:autolabel_verb",
    "bench-infer": "discern.worker.bench:infer_verb",
    "bench-train": "discern.worker.bench_train:train_verb",
    "bench-io": "discern.worker.bench_io:io_verb",
    "data-preview": "discern.worker.preview:preview_verb",
    "models-list": "discern.worker.model_pages:list_verb",
    "models-show": "discern.worker.model_pages:show_verb",
}


ON_RANKS = ("train",)


def main(arguments: list[str] | None = None) -> int:
    """Do the request; gives the exit code."""
    parser = argparse.ArgumentParser(prog="discern.worker")
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("--request", required=True, type=Path)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args(arguments)
    console = Console()
    rank, ranks = 0, 1
    try:
        rank, _, ranks = started_ranks()
        console = Console(mute=rank > 0)
        if ranks > 1:
            begin_rank(rank)
        request = take_request(given.request, given.verb, ranks)
        console = Console(
            json=request.json, quiet=request.quiet, debug=request.debug, mute=rank > 0,
            results=sys.stdout,
        )  # fmt: skip
        if given.run is not None:
            request.arguments["run"] = str(given.run)
        verb = open_import_path(VERBS[given.verb], where="discern.worker")
        # Parts of the user's own may print: with --json stdout is for the one object alone.
        with contextlib.redirect_stdout(sys.stderr if request.json else sys.stdout):
            return int(verb(request, console))
    except Exception as error:  # noqa: BLE001 - the last door: told whole, and as one JSON object
        if ranks > 1:
            leave_process(end_rank(rank, error, console))
        return console.last_door(error)
    except KeyboardInterrupt as error:
        if ranks > 1:
            leave_process(end_rank(rank, error, console))
        return 130


def take_request(path: Path, verb: str, ranks: int = 1) -> Request:
    """Read the request for `verb`; a temporary one that the command line wrote is removed."""
    request = read_request(path)
    if request.verb != verb:
        raise ConfigError(
            "the request is for another verb", where=path, got=request.verb, expected=verb
        )
    if ranks > 1 and verb not in ON_RANKS:
        raise ConfigError(
            "this is done by one process", where=verb, got=f"{ranks} ranks",
            expected=f"one, or the verb {', '.join(ON_RANKS)}",
        )  # fmt: skip
    if path.name.startswith("discern-request-"):
        path.unlink(missing_ok=True)
    return request


if __name__ == "__main__":
    sys.exit(main())
