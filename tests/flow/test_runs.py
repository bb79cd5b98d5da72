"""Runs after their end: what is listed and shown, and whether one can be done again."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import discern_process
import pytest

from discern.track.run import Run, open_run
from discern.training.checkpoints import checkpoint_step, read_checkpoint

EPOCHS, STEPS_PER_EPOCH, KEPT = 4, 40, 2
QUICK = (
    "--model=lenet", "--batch-size=32", "--threads=1", "--precision=fp32",
    "--set=tracking.log_every=10",
)  # fmt: skip
SPY = """
import os
import signal
from pathlib import Path

from discern.training.callbacks import HOOKS, Callback


class Spy(Callback):
    pass


def watched(hook):
    def write(self, progress):
        with Path("spy.txt").open("a") as file:
            file.write(f"{hook} {progress.step}\\n")
        if hook == "after_step" and progress.step == 50 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return write


for hook in HOOKS:
    setattr(Spy, hook, watched(hook))
"""


def discern(root: Path, *words: str) -> tuple[int, str, str]:
    """Run the command line with `root` as the folder of runs: (exit code, stdout, stderr)."""
    own = {"DISCERN_RUNS": str(root), "DISCERN_CACHE": str(root.parent / "cache")}
    done = discern_process.discern(*words, env=own, cwd=root.parent, timeout=180)
    return done.code, done.stdout, done.stderr


def answer(root: Path, *words: str) -> dict[str, Any]:
    """The one object that a command which must succeed prints with --json."""
    code, out, err = discern(root, *words, "--json")
    assert code == 0, err
    value: dict[str, Any] = json.loads(out)
    return value


def last_object(text: str) -> dict[str, Any]:
    """The object on the last line of `text`."""
    value: dict[str, Any] = json.loads(text.splitlines()[-1])
    return value


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training on digits: read it, never write into it."""
    root = tmp_path_factory.mktemp("finished") / "runs"
    root.mkdir()
    words = (
        f"--epochs={EPOCHS}", f"--checkpoint-hist={KEPT}", "--deterministic", "--smoothing=0.1",
        "--monitor=accuracy", *QUICK,
    )  # fmt: skip
    code, _, err = discern(root, "train", "digits", "--name=one", *words)
    assert code == 0, err
    return open_run("digits/one", root)


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """The same run in a folder of runs of this test's own."""
    path = tmp_path / "runs" / finished.project / finished.name
    shutil.copytree(finished.path, path)
    return open_run(str(path), tmp_path / "runs")


def test_list_gives_each_run_with_its_scores(copied: Run, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    shutil.copytree(copied.path, root / "other" / "two")

    listed = answer(root, "runs", "list")["runs"]

    assert ["digits/one", "other/two"] == sorted(run["id"] for run in listed)
    first = next(run for run in listed if run["id"] == "digits/one")
    assert ("digits", "one", "finished") == (first["project"], first["name"], first["status"])
    assert copied.record["metrics"] == first["metrics"]
    assert copied.record["created"] == first["created"]
    ids = [run["id"] for run in answer(root, "runs", "list", "--project=other")["runs"]]
    assert ["other/two"] == ids
    assert [] == answer(root, "runs", "list", "--status=failed")["runs"]


def test_show_tells_attempts_series_and_files(finished: Run) -> None:
    shown = answer(finished.path.parent.parent, "runs", "show", "one")

    assert ("digits/one", "finished") == (shown["id"], shown["status"])
    assert [(1, "finished")] == [(item["number"], item["status"]) for item in shown["attempts"]]
    assert "finished" == shown["exit"]["status"]
    assert {"train/loss", "train/accuracy", "train/lr", "val/loss", "val/accuracy"} <= set(
        shown["series"]
    )
    assert {"config.yaml", "metrics.bin", "model/", "report/", "checkpoints/", "log.txt"} <= set(
        shown["files"]
    )
    assert [] == shown["problems"]
    assert json.loads((finished.path / "run.json").read_text()) == shown["record"]


def test_export_gives_every_point_as_csv_and_as_json(finished: Run) -> None:
    root = finished.path.parent.parent
    expected = {
        name: list(zip(series.steps.tolist(), series.values.tolist(), strict=True))
        for name, series in finished.read_all().items()
    }
    epoch_ends = [float(STEPS_PER_EPOCH * (epoch + 1)) for epoch in range(EPOCHS)]
    assert epoch_ends == [step for step, _ in expected["val/accuracy"]]

    code, out, err = discern(root, "runs", "export", "one", "--format=json")
    assert code == 0, err
    exported = json.loads(out)
    assert "digits/one" == exported["run"]
    assert expected == {
        name: list(zip(series["steps"], series["values"], strict=True))
        for name, series in exported["series"].items()
    }

    code, out, err = discern(root, "runs", "export", "one", "--format=csv")
    assert code == 0, err
    points: dict[str, list[tuple[int, float]]] = {}
    for row in csv.DictReader(io.StringIO(out)):
        points.setdefault(row["series"], []).append((int(row["step"]), float(row["value"])))
    assert expected == points


@pytest.mark.feature("CA-42")
def test_the_best_and_the_last_checkpoints_are_kept_and_the_record_names_them(
    finished: Run,
) -> None:
    accuracy = finished.read_series("val/accuracy")
    loss = finished.read_series("val/loss")
    scored = list(
        zip(accuracy.steps.tolist(), accuracy.values.tolist(), loss.values.tolist(), strict=True)
    )
    ranked = sorted(scored, key=lambda entry: (-entry[1], entry[2]))
    last_two = {STEPS_PER_EPOCH * (EPOCHS - 1), STEPS_PER_EPOCH * EPOCHS}
    expected = {step for step, _, _ in ranked[:KEPT]} | last_two

    found = list((finished.path / "checkpoints").iterdir())
    folders = [path for path in found if path.is_dir()]
    assert ["metrics.json"] == [path.name for path in found if not path.is_dir()]

    assert expected == {checkpoint_step(folder) for folder in folders}
    best = finished.record["best"]
    assert ranked[0] == (best["step"], best["accuracy"], best["loss"])
    for folder in folders:  # each file has the size and SHA-256 that its manifest.json states
        read_checkpoint(folder)


@dataclass(frozen=True)
class Repeated:
    """What `runs rerun --json` left and printed."""

    first: Run
    root: Path
    code: int
    stdout: str


@pytest.fixture(scope="module")
def repeated(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Repeated:
    """The finished run, done again."""
    root = tmp_path_factory.mktemp("repeated") / "runs"
    shutil.copytree(finished.path, root / finished.project / finished.name)
    code, out, _ = discern(root, "runs", "rerun", "one", "--json")
    return Repeated(finished, root, code, out)


@pytest.mark.feature("CA-43")
@pytest.mark.feature("CA-54")
def test_rerun_gives_the_same_bits(repeated: Repeated) -> None:
    assert 0 == repeated.code
    result = last_object(repeated.stdout)
    assert result["same_weights"] is True
    assert ("digits/one", "digits/one-rerun-1") == (result["run"], result["rerun"])
    assert [] == result["differing"]
    first, again = repeated.first, open_run("digits/one-rerun-1", repeated.root)
    assert first.record["metrics"] == result["metrics"]
    assert first.record["weights_hash"] == again.record["weights_hash"]
    for name in ("train/loss", "train/lr", "val/loss"):
        one, two = first.read_series(name), again.read_series(name)
        assert one.steps.tolist() == two.steps.tolist()
        assert one.values.tolist() == two.values.tolist()


def test_rerun_prints_one_object(repeated: Repeated) -> None:
    assert 1 == len(repeated.stdout.splitlines())


@pytest.mark.feature("CA-43")
def test_rerun_of_a_changed_config_names_the_changed_key(copied: Run, tmp_path: Path) -> None:
    config = copied.path / "config.yaml"
    text = config.read_text()
    assert text.count("    smoothing: 0.1\n") == 1
    config.write_text(text.replace("    smoothing: 0.1\n", "    smoothing: 0.2\n"))

    code, out, _ = discern(tmp_path / "runs", "runs", "rerun", "one", "--json")

    assert code == 3
    result = last_object(out)
    assert result["same_weights"] is False
    assert ["config.stages.train.smoothing: 0.1 then, 0.2 now"] == result["differing"]


def test_rerun_of_an_unfinished_run_is_refused(copied: Run, tmp_path: Path) -> None:
    record = json.loads((copied.path / "run.json").read_text())
    (copied.path / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    code, _, err = discern(tmp_path / "runs", "runs", "rerun", "one")
    assert code == 1
    assert "only a finished run can be compared" in err
    assert "interrupted" in err


def spied_epoch(first: int, last: int) -> list[str]:
    """What a spy sees from the step after `first` to the end of the epoch that `last` ends."""
    seen = []
    for step in range(first, last):
        seen += [f"before_step {step}", f"after_step {step + 1}"]
        if (step + 1) % 10 == 0:
            seen.append(f"reading {step + 1}")
    return [*seen, *(f"{hook} {last}" for hook in ("before_evaluation", "after_evaluation"))]


@pytest.mark.feature("LA-24")
def test_callback_by_import_path_sees_the_hooks_in_order_and_steps_go_on_after_a_kill(
    tmp_path: Path,
) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    root, seen = tmp_path / "runs", tmp_path / "spy.txt"
    words = ("digits", "--epochs=2", "--set=tracking.callbacks=[./spy.py:Spy]", *QUICK)

    code, _, _ = discern(root, "train", *words)

    assert code == -signal.SIGKILL
    first_epoch = ["before_epoch 0", *spied_epoch(0, 40), "after_epoch 40"]
    start = ["before_run 0", "before_stage 0"]
    lines = seen.read_text().splitlines()
    assert [*start, *first_epoch, "before_epoch 40"] == lines[: len(start) + len(first_epoch) + 1]
    assert "after_step 50" == lines[-1]

    seen.unlink()
    code, out, err = discern(root, "train", *words)

    assert code == 0, err
    assert "from step 40" in out
    second_epoch = ["before_epoch 40", *spied_epoch(40, 80), "after_epoch 80"]
    end = ["after_stage 80", "after_run 80"]
    lines = seen.read_text().splitlines()
    assert lines[0].startswith("before_run ")
    assert ["before_stage 40", *second_epoch, *end] == lines[1:]

    code, _, err = discern(root, "train", "--resume", "lenet-1")
    assert code == 2
    assert "this run is finished" in err


@pytest.mark.feature("PP-26")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("predict", "digits/none", "image.png"), "no such model"),
        (("eval", "digits/none", "digits"), "no such model"),
        (("eval", "digits/one", "digits"), "the run has no finished model"),
        (("eval", "resnet18", "digits", "--weights=none"), "without weights"),
        (("eval", "resnet18", "digits", "--weights=none.safetensors"), "none.safetensors"),
    ],
)
def test_model_that_is_not_there_is_an_error_and_nothing_is_scored(
    words: tuple[str, ...], told: str, copied: Run, tmp_path: Path
) -> None:
    shutil.rmtree(copied.path / "model")

    code, out, err = discern(tmp_path / "runs", *words, "--json")

    assert code in (1, 2)
    assert told in err
    assert ["error"] == list(json.loads(out))
    assert "Traceback" not in err


@pytest.mark.feature("PP-26")
def test_damaged_model_is_an_error_and_nothing_is_scored(copied: Run, tmp_path: Path) -> None:
    weights = copied.path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    code, out, err = discern(tmp_path / "runs", "eval", "one", "digits")

    assert code == 1
    assert "model.safetensors" in err
    assert "accuracy" not in out
