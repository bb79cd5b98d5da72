"""Automatic labeling on real images: labels given, how many are right, what they bring.

Flowers: 10 labeled photos a class of `flowers12`, its other 50 raw, threshold 0.8. The network's
frozen part sees each photo once; then the rounds are the real ones (ledger, folders, thresholds),
and each run is the default recipe's head stage on kept features: AdamW, 1e-3, cosine, 40 epochs,
mirrored by chance. Digits (`--digits`): 100 labels of MNIST, 2,000 raw, by the commands themselves.
Accuracy is on the data's own test images, with and without the labels given, paired by draw.

    python -m benchmarks.autolabel --data FOLDER [--draws 5] [--trials 3] [--digits 2]
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from discern.base.console import Console
from discern.data.folders import list_folder
from discern.data.inspection import inspect_listing
from discern.data.label_folders import LabelFolders, deal_folds, trial_manifest
from discern.data.label_home import LabelHome
from discern.data.label_ledger import GivenLabel
from discern.data.manifest import Head, Manifest, unique_ids
from discern.data.sources import open_source
from discern.track.run_group import open_group
from discern.training.frozen_features import extract_features
from discern.training.material import FeedSettings, Material
from discern.worker.label_rounds import LabelRounds, LabelRules
from discern.worker.label_trial import TrialOutcome
from discern.worker.open_model import OpenRequest, open_model

MODEL = "mobilenetv2_100"
LABELED = 10
THRESHOLD = 0.8
EPOCHS = 40
# Student's t at 97.5 % by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def features_of(folder: Path, weights: Path) -> dict[str, Tensor]:
    """Content -> features [2, D] of each photo and its mirror image."""
    opened = open_model(OpenRequest(model=MODEL, weights=str(weights), device="cpu"))
    listing = list_folder(folder)
    digests = inspect_listing(listing, 2, None).digests
    manifest = Manifest(
        ids=unique_ids(digests),
        locations=listing.locations,
        heads=(Head("label", "single", ("all",), np.zeros(len(digests), dtype=np.int64)),),
        split=np.full(len(digests), -1, dtype=np.int8),
        root=listing.root,
        layout="photos",
    )
    settings = FeedSettings(device=torch.device("cpu"), workers=1, seed=0, flip=False)
    material = Material(manifest, open_source(manifest), opened.preprocess, settings)
    with material.evaluation_feed("all", 32) as feed:
        kept = extract_features(opened.model, feed, 2)
    return {digest[:16]: kept[:, row] for row, digest in enumerate(digests)}


def train_head(features: Tensor, targets: Tensor, classes: int, seed: int) -> torch.nn.Linear:
    """The recipe `head` on features [N, 2, D]: what the default trains of a pretrained network."""
    torch.manual_seed(seed)
    head = torch.nn.Linear(features.shape[2], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    steps = EPOCHS * -(-len(features) // 32)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features)).split(32):
            views = torch.randint(2, (len(rows),))
            loss = loss_of(head(features[rows, views]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return head.eval()


@dataclass
class HeadTrial:
    """A trial whose runs are heads on kept features; folds and splits are the command's."""

    kept: dict[str, Tensor]
    raw: Path
    seed: int

    def rows(self, ids: Sequence[str]) -> Tensor:
        """Features [N, 2, D] of images by content."""
        return torch.stack([self.kept[name.partition("-")[0]] for name in ids])

    def __call__(
        self, number: int, folders: LabelFolders, labels: Sequence[GivenLabel]
    ) -> TrialOutcome:
        """Five heads: each holds out one fold."""
        dealt = deal_folds(folders.human, 5)
        human, raw = self.rows(folders.human.ids.tolist()), self.rows(folders.raw.ids.tolist())
        held, seen, of_raw = [], [], []
        for fold in range(5):
            made = trial_manifest(dealt, fold, labels, self.raw, val_share=0.1)
            train = made.positions("train")
            head = train_head(
                self.rows(made.ids[train].tolist()), torch.from_numpy(made.targets[train]),
                len(made.classes), self.seed * 1000 + number * 10 + fold,
            )  # fmt: skip
            unseen = np.flatnonzero(dealt.fold == fold)
            with torch.no_grad():
                held.append(head(human[unseen, 0]).numpy())
                of_raw.append(head(raw[:, 0]).numpy())
            seen.append(unseen)
        rows = np.concatenate(seen)
        return TrialOutcome(
            run=f"head-{number}", held_logits=np.concatenate(held),
            held_targets=folders.human.targets[rows],
            held_ids=folders.human.ids[rows], raw_logits=of_raw, metrics={},
        )  # fmt: skip


def flowers_draw(
    images: Path, kept: dict[str, Tensor], work: Path, seed: int, trials: int
) -> dict[str, Any]:
    """One draw of 10 photos a class: labels given, how many are right, test accuracy of both."""
    raw, clean = work / "raw", work / "clean"
    raw.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for folder in sorted((images / "train").iterdir()):
        files = sorted(folder.iterdir())
        (clean / folder.name).mkdir(parents=True)
        for place, row in enumerate(draw.permutation(len(files))):
            target = clean / folder.name if place < LABELED else raw / folder.name
            target.mkdir(exist_ok=True)
            shutil.copy(files[row], target / files[row].name)
    place = LabelHome(clean=clean, raw=raw, home=clean, mode="manifest", folds=5)
    place.ledger_folder.mkdir(parents=True)
    rules = LabelRules(n_trials=trials, threshold=THRESHOLD, precision=0.9, audit=0)
    trial = HeadTrial(kept, raw, seed)
    writer, _ = open_group(work / "runs", kind="autolabel", identity=str(seed), stem="autolabel")
    with writer:
        rounds = LabelRounds(place, rules, trial, writer, Console(quiet=True))
        outcome = rounds.run()
    entries = [json.loads(p.read_text()) for p in sorted(place.ledger_folder.glob("entry-*"))]
    given: dict[str, tuple[str, str]] = {}
    first = None
    for entry in entries:
        if entry["kind"] == "round":
            for record in entry["content"]["withdrawn"]:
                given.pop(record["id"])
            for record in entry["content"]["labels"]:
                given[record["id"]] = (record["tag"], record["source"].partition("/")[0])
            first = first or [tag == true for tag, true in given.values()]
    right = [tag == true for tag, true in given.values()]
    count = sum(1 for path in raw.rglob("*.jpg"))
    alone, grown = accuracies(images, clean, given, trial, seed)
    return {
        "labeled": len(given),
        "coverage": len(given) / count,
        "precision": sum(right) / max(1, len(right)),
        "first_coverage": len(first or []) / count,
        "first_precision": sum(first or []) / max(1, len(first or [])),
        "estimated": [r["precision"]["value"] for r in outcome["rounds"]],
        "stop": outcome["stop"],
        "accuracy_alone": alone,
        "accuracy_grown": grown,
    }


def accuracies(
    images: Path,
    clean: Path,
    given: dict[str, tuple[str, str]],
    trial: HeadTrial,
    seed: int,
) -> tuple[float, float]:
    """Test accuracy of heads on all photos labeled by people, and on these and the labels given."""
    sets = [list_folder(clean), list_folder(images / "test")]
    classes = sorted({str(label) for label in sets[0].labels})
    (human, tags), (test, true) = (
        (trial.rows([d[:16] for d in inspect_listing(listing, 2, None).digests]),
         torch.tensor([classes.index(str(label)) for label in listing.labels]))
        for listing in sets
    )  # fmt: skip
    more = torch.tensor([classes.index(tag) for tag, _ in given.values()], dtype=torch.int64)
    alone = train_head(human, tags, len(classes), seed)
    grown = alone
    if given:
        both = torch.cat([human, trial.rows(list(given))])
        grown = train_head(both, torch.cat([tags, more]), len(classes), seed)
    with torch.no_grad():
        scores = [(head(test[:, 0]).argmax(1) == true).float().mean() for head in (alone, grown)]
    return float(scores[0]), float(scores[1])


def digits_draw(data: Path, work: Path, seed: int) -> dict[str, Any]:
    """100 labels of MNIST and 2,000 raw digits, by `discern autolabel` and `discern train`."""
    from discern.data.idx_files import read_idx

    pixels, labels = (
        read_idx(data / "mnist" / f"{part}-{kind}-ubyte.gz")
        for part, kind in (("train", "images-idx3"), ("train", "labels-idx1"))
    )
    test_pixels, test_labels = (
        read_idx(data / "mnist" / f"t10k-{kind}-ubyte.gz")
        for kind in ("images-idx3", "labels-idx1")
    )
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(pixels))
    for number in range(10):
        rows = order[labels[order] == number]
        for place, row in enumerate(rows[:210]):
            folder = work / ("clean" if place < 10 else "raw") / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[row]).save(folder / f"{row}.png")
        for row in np.flatnonzero(test_labels == number)[:200]:
            folder = work / "test" / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(test_pixels[row]).save(folder / f"{row}.png")
    shutil.copytree(work / "clean", work / "alone")
    common = ("--device", "cpu", "--workers", "1", "--json")
    told = command(
        "autolabel", "--data-raw", work / "raw", "--data-clean", work / "clean", "--baselogdir",
        work / "logs", "--threshold", THRESHOLD, "--n-trials", 1, *common,
    )  # fmt: skip
    given = [path for path in (work / "clean").rglob("*.png")
             if any((work / "raw").glob(f"*/{path.name}"))]  # fmt: skip
    right = [next((work / "raw").glob(f"*/{p.name}")).parent.name == p.parent.name for p in given]
    scores = []
    for source in (work / "alone", work / "clean"):
        trained = command(
            "train", source, "--test", work / "test", "--runs", work / "logs", *common
        )
        scores.append(trained["metrics"]["accuracy"])
    return {
        "labeled": len(given),
        "coverage": len(given) / 2000,
        "precision": sum(right) / max(1, len(right)),
        "estimated": [r["precision"]["value"] for r in told["rounds"]],
        "stop": told["stop"],
        "accuracy_alone": scores[0],
        "accuracy_grown": scores[1],
    }


def command(*words: object) -> dict[str, Any]:
    """The object that `discern WORDS` prints."""
    whole = [sys.executable, "-m", "discern.cli.main", *map(str, words)]
    ended = subprocess.run(whole, check=False, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        raise SystemExit(ended.stdout)
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def paired(draws: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean gain of accuracy over the draws, and half the width of its 95 % interval (Student)."""
    gains = [draw["accuracy_grown"] - draw["accuracy_alone"] for draw in draws]
    half = math.nan
    if len(gains) > 1:
        half = T[len(gains) - 1] * statistics.stdev(gains) / math.sqrt(len(gains))
    return {"gain": statistics.fmean(gains), "half_width": half}


def tell(name: str, draws: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Print a line a draw and the means; gives the record."""
    found = []
    for number, draw in enumerate(draws):
        found.append(draw)
        print(f"{name} {number}: {draw['labeled']} labels, coverage {draw['coverage']:.3f}, "
              f"precision {draw['precision']:.4f}, accuracy {draw['accuracy_alone']:.4f} -> "
              f"{draw['accuracy_grown']:.4f}; {draw['stop']}", flush=True)  # fmt: skip
    keys = ("coverage", "precision", "accuracy_alone", "accuracy_grown")
    means = {key: statistics.fmean(draw[key] for draw in found) for key in keys} | paired(found)
    print(name, json.dumps({key: round(value, 4) for key, value in means.items()}))
    return {"draws": found, "means": means}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autolabel", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of flowers12 and weights")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--digits", type=int, default=0, help="draws of MNIST")
    parser.add_argument("--rounds", type=int, help="the same as --draws")
    given = parser.parse_args()
    record = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if given.draws:
            with tarfile.open(given.data / "flowers12" / "flowers12.tar") as archive:
                archive.extractall(work / "images", filter="data")
            images = work / "images"
            weights = given.data / "weights" / f"{MODEL}.safetensors"
            kept = features_of(images / "train", weights) | features_of(images / "test", weights)
            record["flowers12"] = tell("flowers12", (
                flowers_draw(images, kept, work / f"draw-{seed}", seed, given.trials)
                for seed in range(given.first, given.first + (given.rounds or given.draws))
            ))  # fmt: skip
        if given.digits:
            record["mnist"] = tell("mnist", (
                digits_draw(given.data, work / f"digits-{seed}", seed)
                for seed in range(given.first, given.first + given.digits)
            ))  # fmt: skip
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
