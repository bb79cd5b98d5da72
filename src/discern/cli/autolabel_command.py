"""`discern autolabel`: checks what can be checked without torch, then becomes the worker.

`--undo` and `--dry-run` need no torch: they are done here.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from discern.base.console import Console
from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag, SetFlag, make_request


def _option(*names: str, panel: str = "Labels", **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **settings)


_RAW = _option(
    "--data-raw", "--datadir-raw", panel="Folders", help="folder of images without labels"
)
_CLEAN = _option(
    "--data-clean",
    "--datadir-clean",
    panel="Folders",
    help="folder of labeled images, CLASS/image: it grows",
)
_RUNS = _option(
    "--baselogdir",
    "--workdir",
    "--runs",
    panel="Folders",
    help="folder of all runs; default $DISCERN_RUNS, else ./runs",
)
_TRIALS = _option("--n-trials", min=1, help="rounds at most")
_THRESHOLD = _option("--threshold", help="least calibrated probability of a label")
_TARGET = _option("--precision-target", help="share of labels that must be right, else it stops")
_MODE = _option(
    "--mode", help="copy or link images into the clean folder; manifest: list them only"
)
_AUDIT = _option("--audit", min=0, help="labels of each round drawn for a person to judge")
_FOLDS = _option("--folds", min=2, help="folds of the labeled images; each run holds one out")
_CROSS = _option(
    "--cross-validate/--no-cross-validate",
    help="calibrate on all folds, a run each; default: below 1,000 labeled images",
)
_UNDO = _option(
    "--undo", metavar="ROUND", help="take the labels of this round back; may be given again"
)
_DRY = _option("--dry-run", help="say what there is to label; train nothing")
_CONFIG = typer.Option(
    "--config",
    "-c",
    "--config-template",
    help="config file of the runs; several are merged in order",
)
_SIZE = _option(
    "--img-size",
    "--imgsz",
    "--max-image-size",
    panel="Data",
    help="image side in pixels  [data.image_size]",
)
_WORKERS = _option(
    "--workers", "-j", "--num-workers", panel="Data", help="decoding threads  [data.workers]"
)
_FRESH = typer.Option("--fresh", help="never go on with an earlier one")


def autolabel(
    data_raw: Annotated[str, _RAW],
    data_clean: Annotated[str, _CLEAN],
    runs: Annotated[str | None, _RUNS] = None,
    n_trials: Annotated[int, _TRIALS] = 10,
    threshold: Annotated[float, _THRESHOLD] = 0.95,
    precision_target: Annotated[float, _TARGET] = 0.9,
    mode: Annotated[str, _MODE] = "copy",
    audit: Annotated[int, _AUDIT] = 20,
    folds: Annotated[int, _FOLDS] = 5,
    cross_validate: Annotated[bool | None, _CROSS] = None,
    undo: Annotated[list[int] | None, _UNDO] = None,
    dry_run: Annotated[bool, _DRY] = False,
    config: Annotated[list[str] | None, _CONFIG] = None,
    sets: SetFlag = None,
    fresh: Annotated[bool, _FRESH] = False,
    img_size: Annotated[int | None, _SIZE] = None,
    workers: Annotated[int | None, _WORKERS] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Label raw images by rounds of training."""
    from discern.launch.labeling import label_arguments, label_place, look_at_folders, undo_labels
    from discern.launch.worker_process import become_worker

    pairs: Pairs = [("--data-clean", "data.source", data_clean), *flags]
    own = (("--img-size", "data.image_size", img_size), ("--workers", "data.workers", workers))
    pairs += [pair for pair in own if pair[2] is not None]
    arguments = label_arguments(
        data_raw=data_raw, data_clean=data_clean, runs=runs, n_trials=n_trials,
        threshold=threshold, precision_target=precision_target, mode=mode, audit=audit,
        folds=folds, cross_validate=cross_validate, fresh=fresh,
    )  # fmt: skip
    request = make_request(
        "autolabel", arguments=arguments, flags=pairs, config=config, sets=sets,
        json=json, quiet=quiet, debug=debug,
    )  # fmt: skip
    console = Console(json=json, quiet=quiet, debug=debug)
    if undo:
        console.emit(undo_labels(request, undo, console))
    elif dry_run:
        console.emit(look_at_folders(request, console))
    else:
        label_place(request)
        become_worker(request)
