"""The verb `review`: which labels are probably wrong, in one queue, from one pass over the images.

Owns the order of the work and what is told; signals are found by `training.label_suspects`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import counted
from discern.config.request import Request
from discern.data.deciding import check_taken_over
from discern.data.folds import contents
from discern.data.label_decisions import DecisionHistory, read_decisions
from discern.data.manifest import SPLITS, Head
from discern.data.review_queue import QueueRow
from discern.data.scan import ScannedData
from discern.training.class_curves import ClassCurves, class_curves
from discern.training.label_suspects import (
    Suspects,
    cleanlab_suspects,
    find_suspects,
    neighbor_votes,
)
from discern.training.linear_probe import probe_folds, probe_out_of_fold
from discern.training.scores import wilson_interval
from discern.worker.open_model import open_model
from discern.worker.request_values import (
    open_request,
    pair_value,
    scoring_precision,
    set_threads,
)
from discern.worker.review_evidence import (
    ReviewFeatures,
    features_of_file,
    features_of_pixels,
    kfold_folder,
    kfold_probabilities,
    network_features,
)
from discern.worker.review_subject import ReviewSubject, review_subject, scan_to_review
from discern.worker.scored_data import data_source, request_name
from discern.workflows.review_files import ReviewContent, write_review

FEATURES_FILE: Final = "features.parquet"
_SHOWN: Final = 20


def review_verb(request: Request, console: Console) -> int:
    """Do one `review` request."""
    console.emit(review_request(request, console))
    return 0


def review_request(request: Request, console: Console) -> dict[str, Any]:
    """Find suspect labels and write the review; gives the object of `--json`."""
    started = time.monotonic()
    set_threads(request)
    given = request.arguments
    folder = Path(given["out"])
    check_taken_over(folder)
    if given.get("kfold") is not None:
        kfold_folder(given["kfold"], given.get("runs"))
    scanned = scan_to_review(request, folder, console)
    subject = review_subject(request, scanned, console)
    features = _features(request, scanned, subject, console)
    probabilities, words = _probabilities(request, subject, features)
    console.say(f"evidence {words}")
    votes = None
    if features is not None:
        votes = _widened(
            neighbor_votes(features.values, subject.codes, subject.groups), probabilities.shape[1]
        )
    confident = None
    if given.get("suspects") == "cleanlab":
        confident = cleanlab_suspects(probabilities, subject.codes)
    found = find_suspects(
        probabilities, subject.codes, votes=votes, same=subject.same, confident=confident
    )
    curves = _curves(request, subject, features)
    kept = _kept(folder, subject)
    rows = _queue(subject, found, probabilities, given.get("threshold") or 0.0, kept)
    accuracy = _accuracy(subject.codes, probabilities)
    content = ReviewContent(
        name=request_name(scanned),
        evidence=words,
        manifest=subject.manifest,
        source=subject.source,
        head=subject.head,
        rows=rows,
        predicted=probabilities.argmax(axis=1),
        codes=subject.codes,
        accuracy=accuracy,
        overlay=DecisionHistory.of(folder).newest().number,
        curves=curves,
    )
    files = write_review(folder, content)
    outcome = {
        "review": str(folder),
        "images": len(subject.manifest),
        "labeled": int((subject.codes >= 0).sum()),
        "suspects": len(rows),
        "kept": len(kept),
        "not_checked": list(subject.lone),
        "evidence": words,
        **accuracy,
        "overlay": content.overlay,
        "files": {name: str(path) for name, path in files.items()},
        "queue": [row.record() for row in rows[:_SHOWN]],
        "classes": None if curves is None else curves.records(subject.head.classes),
        "seconds": round(time.monotonic() - started, 3),
    }
    _tell(outcome, rows, curves, subject.head, console)
    return outcome


def _features(
    request: Request, scanned: ScannedData, subject: ReviewSubject, console: Console
) -> ReviewFeatures | None:
    given = request.arguments
    workers = pair_value(request, "data.workers")
    if given.get("features") is not None:
        return features_of_file(given["features"], subject.manifest)
    if given.get("model") is None:
        if pair_value(request, "model.weights") is not None:
            raise ConfigError(
                "these are the weights of no network", where="--weights",
                expected="--model NAME with them",
            )  # fmt: skip
        if given.get("kfold") is not None:
            return None
        return features_of_pixels(
            subject.manifest, subject.source, scanned.facts.channels, workers=workers
        )
    amp_dtype = scoring_precision(request)
    opened = open_model(open_request(request))
    console.say(f"model    {opened.name}, on {opened.device}")
    if opened.scored.source == data_source(request):
        console.warn(
            "The network was trained on some of these labels, and may have learned their mistakes: "
            "a pretrained one, or `discern kfold` and --kfold, finds more."
        )
    return network_features(
        opened, subject.manifest, subject.source, Path(given["out"]) / FEATURES_FILE,
        batch_size=given["batch_size"], workers=workers, amp_dtype=amp_dtype,
    )  # fmt: skip


def _probabilities(
    request: Request, subject: ReviewSubject, features: ReviewFeatures | None
) -> tuple[NDArray[np.float64], str]:
    given = request.arguments
    if given.get("kfold") is not None:
        folder = kfold_folder(given["kfold"], given.get("runs"))
        found = kfold_probabilities(folder, subject.manifest, subject.head)
        neighbors = "no neighbors: --model gives them"
        if features is not None:
            neighbors = f"neighbors by {features.words}"
        return found, f"probabilities of {folder}; {neighbors}"
    if features is None:
        raise ConfigError("there is nothing to review by", where="discern review")
    folds = given["folds"]
    found = probe_out_of_fold(
        features.values, subject.codes, subject.groups, folds, given["seed"],
        classes=len(subject.head.classes),
    )  # fmt: skip
    return found, f"a linear probe out of {folds} folds, on {features.words}"


def _widened(votes: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    return np.pad(votes, ((0, 0), (0, classes - votes.shape[1])))


def _curves(
    request: Request, subject: ReviewSubject, features: ReviewFeatures | None
) -> ClassCurves | None:
    given = request.arguments
    if not given.get("curve"):
        return None
    if features is None:
        raise ConfigError(
            "learning curves need features", where="--curve", got="--kfold alone",
            expected="--model, or neither",
        )  # fmt: skip
    fold = probe_folds(subject.codes, subject.groups, given["folds"], given["seed"])
    return class_curves(
        features.values, subject.codes, fold, classes=len(subject.head.classes), seed=given["seed"]
    )


def _kept(folder: Path, subject: ReviewSubject) -> frozenset[str]:
    """Ids of images that somebody has decided on: they are not asked about again."""
    history = DecisionHistory.of(folder)
    if not history.numbers():
        return frozenset()
    decided = {d.id for d in read_decisions(folder).decisions}
    return frozenset(decided & set(subject.manifest.ids.tolist()))


def _queue(
    subject: ReviewSubject,
    found: Suspects,
    probabilities: NDArray[np.float64],
    least: float,
    kept: frozenset[str],
) -> list[QueueRow]:
    """One row for each suspect label; copies of equal bytes and label are one."""
    manifest, classes = subject.manifest, subject.head.classes
    content = contents(manifest.ids)
    together: dict[tuple[str, int], list[int]] = {}
    for row in found.ranked(least).tolist():
        if str(manifest.ids[row]) not in kept:
            together.setdefault((str(content[row]), int(subject.codes[row])), []).append(row)
    rows = []
    for rank, (row, *copies) in enumerate(together.values(), 1):
        code, best = int(subject.codes[row]), int(found.suggested[row])
        split = int(manifest.split[row])
        share = float(found.share[row])
        rows.append(
            QueueRow(
                rank=rank,
                id=str(manifest.ids[row]),
                path=str(manifest.locations.paths[row]),
                split=SPLITS[split] if split >= 0 else None,
                label=classes[code],
                suggested=None if best == code else classes[best],
                score=round(float(found.score[row]), 6),
                reasons=tuple(found.reasons_of(row)),
                probability=round(float(found.own[row]), 6),
                suggested_probability=round(float(probabilities[row, best]), 6),
                loss=round(float(found.loss[row]), 6),
                neighbors=None if np.isnan(share) else round(share, 6),
                copies=tuple(str(manifest.ids[other]) for other in copies),
            )
        )
    return rows


def _accuracy(codes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """The share of labels that are the likeliest class out of fold, and its Wilson interval."""
    known = codes >= 0
    right = int((probabilities.argmax(axis=1) == codes)[known].sum())
    low, high = wilson_interval(right, int(known.sum()))
    return {"accuracy": right / int(known.sum()), "accuracy_low": low, "accuracy_high": high}


def _tell(
    outcome: dict[str, Any],
    rows: list[QueueRow],
    curves: ClassCurves | None,
    head: Head,
    console: Console,
) -> None:
    shown = [
        (row.rank, round(row.score, 3), row.label, row.suggested or "-", ", ".join(row.reasons),
         row.path)
        for row in rows[:_SHOWN]
    ]  # fmt: skip
    if shown:
        console.table(("rank", "score", "label", "suggested", "reasons", "image"), shown)
    if len(rows) > _SHOWN:
        console.say(f"and {len(rows) - _SHOWN} more")
    console.result(
        console.paint(
            f"{counted(len(rows), 'suspect label')} of {outcome['labeled']:,}; out of fold "
            f"{outcome['accuracy']:.4f} of the labels are predicted (95 %: "
            f"{outcome['accuracy_low']:.4f} to {outcome['accuracy_high']:.4f})",
            "bold",
        )
    )
    if 2 * len(rows) > outcome["labeled"]:
        console.warn(
            "more than half of the labels are suspect: the evidence is weak rather than the labels "
            "wrong; a pretrained network (--model) or a longer training sees more"
        )
    if outcome["kept"]:
        console.say(f"decided  {counted(outcome['kept'], 'image')} not asked about again")
    if curves is not None:
        for line in curves.lines(head.classes):
            console.say(line)
    console.say(f"page     {outcome['files']['page']}")
    console.say(f"queue    {outcome['files']['queue']}")
    if rows:
        first = f"1-{min(len(rows), 10)}" if len(rows) > 1 else "1"
        console.say(f"next     discern data decide {outcome['review']} --accept {first}")
