"""Training stopped and gone on with: ranks x precision x mixup x accumulation, any loader threads.

In each cell a training that nothing disturbed and one that was stopped and gone on with by new
processes end with the same bits, each part with other loader threads; other ranks or another
precision are other trainings.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from discern_process import make_images
from forked_ranks import on_ranks
from rank_trainings import NETWORK, STOPPING, request, run_rank, train_on, trained

from discern.training.checkpoints import CheckpointStore, read_checkpoint

STEPS = 27  # three epochs of nine batches
WORKERS = (0, 2, 4)
CELLS = list(itertools.product((1, 2), ("fp32", "bf16"), (None, 0.3), (1, 3)))
# Every value of two cells is in one of them; all the others take minutes.
QUICK = {(1, "bf16", 0.3, 3), (2, "fp32", 0.3, 3)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """84 images to train on, too large to be kept in memory: threads read and crop them."""
    folder = tmp_path_factory.mktemp("photos")
    return make_images(folder, ("ant", "bee", "cat"), each=40, size=(72, 72))


def name_of(cell: tuple[int, str, float | None, int]) -> str:
    ranks, precision, mixup, passes = cell
    return f"{ranks}-{precision}-{'mixup' if mixup else 'plain'}-{passes}"


def ended(runs: Path, settings: dict[str, Any], ranks: int) -> dict[str, Any]:
    """What must not differ of a training that is done: every tensor, score and reading."""
    record, series = trained(runs, settings, ranks)
    (path,) = runs.glob("*/*/checkpoints")
    steps = CheckpointStore(path, warn=print).steps()
    assert STEPS == max(steps)
    digest = hashlib.sha256()
    tensors = read_checkpoint(path / f"step-{STEPS}").tensors
    for group, found in sorted(tensors.items()):
        for name, tensor in sorted(found.items()):
            digest.update(f"{group}.{name}".encode() + tensor.contiguous().numpy().tobytes())
    series = hashlib.sha256(json.dumps(series, sort_keys=True).encode()).hexdigest()
    keys = ("weights_hash", "metrics", "val_metrics", "best")
    return {"tensors": digest.hexdigest(), "series": series, **{k: record[k] for k in keys}}


@pytest.mark.feature("MX-15")
@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=name_of(cell), marks=() if cell in QUICK else pytest.mark.slow)
        for cell in CELLS
    ],
)
def test_training_gone_on_with_ends_as_an_undisturbed_one(cell, tmp_path, photos, monkeypatch):
    """Dropout, batch norm and EMA; stopped at steps drawn by the cell's name."""
    train_on(photos, monkeypatch)
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "stop.py").write_text(STOPPING)
    ranks, precision, mixup, passes = cell
    settings = {
        "model.name": f"{tmp_path}/net.py:build", "data.image_size": [72, 72],
        "compute.precision": precision, "stages.*.mixup": mixup or 0.0,
        "stages.*.grad_accum_steps": passes, "stages.*.ema": 0.9,
    }  # fmt: skip
    draws = random.Random(name_of(cell))
    expected = ended(tmp_path / "undisturbed", {**settings, "data.workers": 0}, ranks)
    # One training in the quick cells, with other threads before the stop and after it.
    turns = [(2, 0)] if cell in QUICK else [(n, WORKERS[i - 2]) for i, n in enumerate(WORKERS)]
    for before, after in turns:
        runs = tmp_path / f"stopped-{before}"
        stop = [{"name": f"{tmp_path}/stop.py:StopAt", "args": {"step": draws.randrange(2, STEPS)}}]
        asked = request(runs, {**settings, "data.workers": before, "tracking.callbacks": stop})
        answers = on_ranks(run_rank, asked, ranks=ranks, joined=False)
        assert ["Interrupted"] * ranks == [answer["kind"] for answer in answers]
        assert expected == ended(runs, {**settings, "data.workers": after}, ranks)
