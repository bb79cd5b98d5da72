"""The verb `eval`: score a model on every image of some data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean
from discern.compute.device import AMP_TYPES, choose_precision, usable_cores
from discern.config.request import Request
from discern.data.manifest import MISSING, SPLITS
from discern.data.scan import DataRequest, ScannedData, scan_data
from discern.data.sources import open_source
from discern.training.evaluate import evaluate
from discern.training.material import FeedSettings, Material
from discern.training.scores import EvalTable, most_confused_pairs, score_record
from discern.worker.open_model import OpenedModel, OpenRequest, open_model
from discern.worker.report_content import evaluation_content
from discern.worker.terminal import counting_bar
from discern.workflows.report import write_report

_KEYS = {
    "model.weights": "weights",
    "data.image_size": "image_size",
    "data.interpolation": "interpolation",
    "data.crop_pct": "crop_pct",
    "data.fit": "fit",
    "compute.device": "device",
}


def open_request(request: Request) -> OpenRequest:
    """What `eval` and `predict` say about their model."""
    given = request.arguments
    fields: dict[str, Any] = {
        "model": given["model"],
        "classes": given.get("classes"),
        "mean": given.get("mean"),
        "std": given.get("std"),
        "runs": given.get("runs"),
        "arguments": {},
    }
    for _, key, value in request.pairs:
        if key in _KEYS:
            fields[_KEYS[key]] = value
        elif key.startswith("model.args."):
            fields["arguments"][key.removeprefix("model.args.")] = value
    return OpenRequest(**fields)


def pair_value(request: Request, key: str, default: Any = None) -> Any:
    """The last value that a flag gave to `key`."""
    return next((value for _, name, value in reversed(request.pairs) if name == key), default)


def evaluation_verb(request: Request, console: Console) -> int:
    """Do one `eval` request."""
    console.emit(evaluate_request(request, console))
    return 0


def evaluate_request(request: Request, console: Console) -> dict[str, Any]:
    """Score the model; gives the object of `--json`. Raises DiscernError."""
    started = time.monotonic()
    opened = open_model(open_request(request))
    console.say(f"model    {opened.name}, {len(opened.classes)} classes, on {opened.device}")
    scanned = _scan(request, opened, console)
    workers = pair_value(request, "data.workers")
    settings = FeedSettings(
        device=opened.device.torch_device,
        workers=usable_cores() if workers is None else workers,
        seed=0,
        flip=False,
    )
    manifest = scanned.manifest
    source = open_source(manifest)
    material = Material(manifest, source, opened.preprocess, settings)
    split = _split(request.arguments.get("split"), manifest.split)
    precision, _ = choose_precision(
        pair_value(request, "compute.precision", "fp32"), settings.device, lambda _: None
    )
    with material.evaluation_feed(split, int(request.arguments.get("batch_size") or 64)) as feed:
        table = evaluate(
            opened.model,
            feed,
            classes=opened.classes,
            device=settings.device,
            amp_dtype=AMP_TYPES[precision],
        )
    metrics = {"split": split, **score_record(table)}
    seconds = time.monotonic() - started
    out = request.arguments.get("out")
    if out is not None:
        content = evaluation_content(opened, material, table, metrics)
        write_report(Path(out), content)
    _tell(table, metrics, seconds, out, console)
    return {
        "run": None,
        "status": "finished",
        "metrics": metrics,
        "val_metrics": None,
        "model": opened.name,
        "report": out,
        "seconds": round(seconds, 3),
    }


def _scan(request: Request, opened: OpenedModel, console: Console) -> ScannedData:
    data = DataRequest(
        train=request.arguments["data"],
        root=pair_value(request, "data.root"),
        label=pair_value(request, "data.label"),
        on_bad_image=pair_value(request, "data.on_bad_image", "error"),
        split=None,
    )
    with counting_bar(console, "reading images") as progress:
        scanned = scan_data(data, progress)
    for problem in scanned.problems:
        console.warn(f"left out: {problem.path}: {problem.text}")
    return _with_model_classes(scanned, opened)


def _with_model_classes(scanned: ScannedData, opened: OpenedModel) -> ScannedData:
    """The same images with the model's class numbers, mapped by name.

    Labels may be class names, other spellings the model knows (ImageNet's ids), or bare numbers.
    Raises DataError naming a class that the model does not know.
    """
    from dataclasses import replace

    manifest = scanned.manifest
    known = {name: number for number, name in enumerate(opened.classes)} | opened.aliases
    numeric = all(name.isdigit() for name in manifest.classes)
    if numeric and not any(name in known for name in manifest.classes):
        known = {str(number): number for number in range(len(opened.classes))}
    unknown = [name for name in manifest.classes if name not in known]
    if unknown:
        raise DataError(
            "the data has a class that the model does not know",
            where=request_name(scanned),
            got=", ".join(unknown[:10]),
            expected=f"{len(opened.classes)} classes: {', '.join(opened.classes[:20])}",
            hint=did_you_mean(unknown[0], opened.classes),
        )
    numbers = np.array([known[name] for name in manifest.classes], dtype=np.int64)
    old = manifest.targets
    targets = np.where(old >= 0, numbers[np.maximum(old, 0)], MISSING) if len(numbers) else old
    head = replace(manifest.head, classes=opened.classes, targets=targets)
    return replace(scanned, manifest=replace(manifest, heads=(head,)))


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


def _tell(
    table: EvalTable, metrics: dict[str, Any], seconds: float, out: str | None, console: Console
) -> None:
    score = (
        f"accuracy {metrics['accuracy']:.4f} on {metrics['count']} images of {metrics['split']} "
        f"(95 %: {metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f})"
    )
    console.result(console.paint(score, "bold"))
    rate = len(table.positions) / seconds
    console.say(f"  top-5 {metrics['top5']:.4f}, loss {metrics['loss']}, {rate:.0f} img/s")
    for pair in most_confused_pairs(table, 5):
        console.say(f"  {pair.true} taken for {pair.predicted}: {pair.count}")
    if out is not None:
        console.say(f"report   {out}/index.html")
