"""Which images of some data a model is scored or fitted on, under the model's class numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError
from discern.base.names import counted
from discern.base.progress_bar import counting_bar
from discern.config.request import Request
from discern.config.schema import DataConfig
from discern.data.fold_split import hold_out_fold
from discern.data.head_spec import is_plain, main_heads
from discern.data.label_origin import draw_splits
from discern.data.label_spec import read_label_specs
from discern.data.manifest import SPLITS, Manifest
from discern.data.scan import DataRequest, ScannedData, scan_data
from discern.data.split import TRAIN, SplitRule
from discern.data.table_labels import LABEL_HINT
from discern.worker.data_scan import reported_apart, scan_as_trained, tell_problems
from discern.worker.matched_labels import matched_head
from discern.worker.open_model import OpenedModel
from discern.worker.request_values import named_pairs, pair_value


def scan_scored(request: Request, opened: OpenedModel, console: Console) -> tuple[ScannedData, str]:
    """The images of an `eval` request under the model's class numbers, and the split to score."""
    wanted = request.arguments.get("split")
    scanned = _scanned(request, opened, console)
    scanned = split_as_trained(scanned, wanted, opened, console, data_source(request))
    scanned = with_model_classes(scanned, opened, console)
    return scanned, _split(wanted, scanned.manifest.split)


def split_as_trained(
    scanned: ScannedData,
    wanted: str | None,
    opened: OpenedModel,
    console: Console,
    source: str,
) -> ScannedData:
    """The same images; where `wanted` is a split that they do not come with, drawn as in training.

    Of a model that a fold was held out of, test is that fold. `source`: their name, as
    `data_source` gives it.
    """
    if wanted in SPLITS and source == opened.scored.source and _split_by_more(opened):
        return _as_in_training(scanned, opened, console)
    if wanted in SPLITS and opened.scored.folds is not None:
        held = hold_out_fold(scanned.manifest, opened.scored.folds).manifest
        console.say(f"split    test is fold {opened.scored.folds.held}, held out in training")
        return replace(scanned, manifest=held)
    if wanted in SPLITS and _drawable(wanted, scanned.manifest.split):
        console.say(f"split    drawn as for training, seed {opened.scored.split.seed}")
        return _with_drawn_split(scanned, opened.scored.split)
    return scanned


def scan_fitted(request: Request, opened: OpenedModel, console: Console) -> tuple[ScannedData, str]:
    """The images that a temperature or a threshold is fitted on, and their split: never reported.

    Of the data of a training those that its model was chosen by; of a set with splits its val, or
    what training would draw as val; all images of a set without splits. A split that is asked for
    is taken, with a warning where the model learned it or its score is reported.
    """
    scanned = _scanned(request, opened, console)
    wanted = request.arguments.get("split")
    trained_on = data_source(request) == opened.scored.source
    if trained_on and _split_by_more(opened):
        scanned = _as_in_training(scanned, opened, console)
    codes = scanned.manifest.split
    there = {name for code, name in enumerate(SPLITS) if (codes == code).any()}
    if trained_on and _split_by_more(opened):
        default = _chosen_by(scanned, wanted)
    elif trained_on and opened.scored.folds is not None:
        held = hold_out_fold(scanned.manifest, opened.scored.folds).manifest
        scanned, default = replace(scanned, manifest=held), "val"
    elif "train" in there or (not there and (wanted in SPLITS or trained_on)):
        scanned, default = _with_drawn_split(scanned, opened.scored.split), "val"
    else:
        default = "val" if "val" in there else "all" if not there else ""
    if not default and wanted is None:
        raise ConfigError(
            "there are only test images, and nothing is fitted on them unasked",
            where=request_name(scanned), expected="validation images, or a set without splits",
            hint="--split test takes them, and their score is then too good",
        )  # fmt: skip
    scanned = with_model_classes(scanned, opened, console)
    split = _split(wanted or default, scanned.manifest.split)
    apart = reported_apart(opened.scored.data.get("val"), opened.scored.data.get("test"))
    if split in ("test", "train") or data_source(request) == apart:
        console.warn(f"fitted on the {split} images: what is told of them will be too good")
    console.say(
        f"split    {split}, {counted(len(_rows(scanned.manifest, split)), 'image')} to fit on"
    )
    return scanned, split


def _rows(manifest: Manifest, split: str) -> NDArray[np.int64]:
    return np.arange(len(manifest)) if split == "all" else manifest.positions(split)


def _split_by_more(opened: OpenedModel) -> bool:
    """Whether its training split the images by more than a rule or a held-out fold."""
    more = ("val", "test", "train_folds", "val_folds", "test_folds", "n_folds")
    return any(opened.scored.data.get(key) for key in more)


def _as_in_training(scanned: ScannedData, opened: OpenedModel, console: Console) -> ScannedData:
    """The same images with the splits that training gave them; unknown ones count as train."""
    data = DataConfig.model_validate(opened.scored.data)
    trained = scan_as_trained(data, Console(quiet=True))
    if trained.manifest.hash != opened.scored.images_hash:
        console.warn("the images have changed since the training: some may be drawn otherwise now")
    known = dict(zip(trained.manifest.ids.tolist(), trained.manifest.split.tolist(), strict=True))
    codes = np.array([known.get(one, TRAIN) for one in scanned.manifest.ids.tolist()], np.int8)
    console.say("split    as in training, by its data.val, data.test or folds")
    return replace(scanned, manifest=scanned.manifest.with_split(codes))


def _chosen_by(scanned: ScannedData, wanted: str | None) -> str:
    """`val`, which a temperature is fitted on. Raises ConfigError where the data has none."""
    if wanted is None and not len(scanned.manifest.positions("val")):
        raise ConfigError(
            "the model learned from all of these images, or is reported on them",
            where=request_name(scanned), expected="images that the model was chosen by, or others",
            hint="give the data that training had as --val",
        )  # fmt: skip
    return "val"


def data_source(request: Request) -> str:
    """DATA as a run's config names it: an absolute path, or a built-in name."""
    data = str(request.arguments["data"])
    return str(Path(data).resolve()) if Path(data).exists() else data


def _scanned(request: Request, opened: OpenedModel, console: Console) -> ScannedData:
    """The images of the request, with the splits and classes that they come with."""
    columns = _label_columns(request, opened)
    data = DataRequest(
        train=request.arguments["data"],
        root=pair_value(request, "data.root"),
        label=columns,
        on_bad_image=pair_value(request, "data.on_bad_image", "error"),
        split=None,
        source_args=named_pairs(request, "data.source_args"),
        overlay=pair_value(request, "data.overlay"),
    )
    with counting_bar(console, "reading images") as progress:
        scanned = scan_data(data, progress)
    for note in scanned.notes:
        console.say(f"note: {note}")
    tell_problems(scanned, console)
    return _called_as_asked(scanned, columns)


def _called_as_asked(scanned: ScannedData, columns: Any) -> ScannedData:
    """The same images; a lone label column is called as the request calls it, not `label`.

    Of a model of several heads it is that head's.
    """
    specs, heads = read_label_specs(columns), scanned.manifest.heads
    if len(specs) != 1 or len(heads) != 1:
        return scanned
    head = replace(heads[0], name=specs[0].name)
    return replace(scanned, manifest=replace(scanned.manifest, heads=(head,)))


def _drawable(wanted: str, codes: NDArray[np.int8]) -> bool:
    """Whether training would draw the split `wanted`: it is not given, or val is taken of it."""
    there = {name for code, name in enumerate(SPLITS) if (codes == code).any()}
    return not there or (wanted in ("train", "val") and there == {"train", "test"})


def _with_drawn_split(scanned: ScannedData, rule: SplitRule) -> ScannedData:
    """The same images with the splits that training draws by `rule`."""
    manifest = scanned.manifest
    outcome = draw_splits(manifest, rule)
    return replace(
        scanned,
        manifest=manifest.with_split(outcome.codes),
        reported=outcome.reported,
        random_split=outcome.random,
    )


def _label_columns(request: Request, opened: OpenedModel) -> Any:
    """The label columns: as asked for, else of several heads (or labels) those of the training."""
    asked = pair_value(request, "data.labels")
    if asked is not None or is_plain(main_heads(opened.heads)):
        return asked
    return opened.scored.labels


def with_model_classes(scanned: ScannedData, opened: OpenedModel, console: Console) -> ScannedData:
    """The same images with the model's class numbers, mapped by name, head by head.

    Raises DataError if no label column is one of the model's heads, and as `matched_head` does.
    """
    main, manifest = main_heads(opened.heads), scanned.manifest
    where = request_name(scanned)
    if len(main) == 1 and len(manifest.heads) == 1:
        pairs = [(main[0], manifest.heads[0])]
    else:
        known = {head.name: head for head in manifest.heads}
        pairs = [(spec, known[spec.name]) for spec in main if spec.name in known]
        left = [spec.name for spec in main if spec.name not in known]
        if not pairs:
            raise DataError(
                "no label column of the data is a head of the model",
                where=where,
                got=", ".join(known),
                expected=", ".join(left),
                hint=LABEL_HINT,
            )
        if left:
            console.say(f"note: not scored, for there is no such label column: {', '.join(left)}")
    heads = tuple(matched_head(spec, head, opened, where, console) for spec, head in pairs)
    return replace(scanned, manifest=replace(manifest, heads=heads))


def request_name(scanned: ScannedData) -> str:
    """What to call the data in messages."""
    return f"{scanned.name} ({scanned.manifest.layout})"


def _split(wanted: str | None, codes: NDArray[np.int8]) -> str:
    there = [name for code, name in enumerate(SPLITS) if (codes == code).any()]
    if wanted is None:
        return "test" if "test" in there else "val" if "val" in there else "all"
    if wanted != "all" and wanted not in there:
        raise ConfigError(
            "the data has no such split", where="--split", got=wanted,
            expected=", ".join([*there, "all"]),
        )  # fmt: skip
    return wanted
