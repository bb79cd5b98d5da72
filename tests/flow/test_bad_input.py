"""Bad input through the real command line: each fails in full form, and loses nothing saved."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from discern_process import (
    QUICK,
    Ended,
    discern,
    environment,
    make_images,
    picture,
    run_record,
    start,
    write_table,
)
from PIL import Image

ODD_NAMES = ("a b", "Ünï ✓", 'it\'s "q"', "<script>alert(1)<", "-dash", "=1+1")


# ---- data that cannot be used: refused before a run is made ----


def _missing_folder(root: Path) -> Path:
    make_images(root / "pets")
    return root / "petz"


def _one_class(root: Path) -> Path:
    return make_images(root / "pets", ("ant",))


def _empty_class(root: Path) -> Path:
    make_images(root / "pets")
    (root / "pets" / "cat").mkdir()
    return root / "pets"


def _broken_images(root: Path) -> Path:
    """One file that is no image, one that is cut off, among sound ones."""
    make_images(root / "pets")
    (root / "pets/ant/00.jpg").write_bytes(b"this is no image")
    cut = root / "pets/bee/01.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    return root / "pets"


def _too_few(root: Path) -> Path:
    make_images(root / "pets", ("ant",), each=6)
    return make_images(root / "pets", ("ant", "bee"), each=2)


def _rows(root: Path) -> list[dict[str, object]]:
    make_images(root / "pets")
    return [
        {"path": f"pets/{name}/{number:02d}.jpg", "kind": name}
        for name in ("ant", "bee")
        for number in range(6)
    ]


def _no_label_column(root: Path) -> Path:
    return write_table(root / "pets.csv", _rows(root))


def _missing_files(root: Path) -> Path:
    rows = [{"path": row["path"], "label": row["kind"]} for row in _rows(root)]
    return write_table(root / "pets.csv", [*rows, {"path": "pets/ant/99.jpg", "label": "ant"}])


def _empty_table(root: Path) -> Path:
    path = root / "pets.csv"
    path.write_text("path,label\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("make", "what", "told"),
    [
        (_missing_folder, "there is no such data", {"got": "petz", "hint": "pets'?"}),
        (
            _one_class,
            "there is nothing to tell apart",
            {
                "where": "pets",
                "got": "1 class: ant",
                "expected": "at least 2",
                "hint": "DATA/CLASS",
            },
        ),
        (_empty_class, "a class folder has no images", {"where": "cat", "hint": "remove"}),
        (
            _broken_images,
            "2 of 12 images cannot be read",
            {"where": "pets", "got": "bee/01.jpg (", "hint": "--on-bad-image skip"},
        ),
        (
            _too_few,
            "a class has too few images",
            {"where": "bee", "got": "2 images", "expected": "at least 3", "hint": "add images"},
        ),
        (
            _no_label_column,
            "the table has no label column",
            {"where": "pets.csv", "got": "kind", "expected": "label", "hint": "--label"},
        ),
        (
            _missing_files,
            "1 of 13 images that the table names are not there",
            {"where": "pets.csv", "got": "pets/ant/99.jpg", "expected": "relative to"},
        ),
        (_empty_table, "the table has no rows", {"where": "pets.csv"}),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_unusable_data_is_refused_in_full_form(
    make: Callable[[Path], Path], what: str, told: dict[str, str], tmp_path: Path
) -> None:
    ended = discern("train", make(tmp_path), *QUICK, "--json", "--runs", tmp_path / "runs")
    assert (1, "data") == (ended.code, ended.error["kind"])
    assert what in (ended.error["what"] or "")
    for name, part in told.items():
        assert part in (ended.error[name] or ""), name
        assert f"{'try' if name == 'hint' else name}:" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_bad_images_are_skipped_counted_and_reported(tmp_path: Path) -> None:
    data = _broken_images(tmp_path)
    ended = discern("train", data, "--on-bad-image", "skip", *QUICK, "--json")
    assert 0 == ended.code, ended.stderr
    assert "left out: ant/00.jpg: " in ended.stderr
    assert "left out: bee/01.jpg: " in ended.stderr
    record = run_record(ended)
    assert ["ant/00.jpg", "bee/01.jpg"] == [entry["path"] for entry in record["left_out"]]
    assert 10 == sum(sum(counts.values()) for counts in record["split"]["counts"].values())
    page = (Path(ended.object["report"]) / "index.html").read_text(encoding="utf-8")
    assert "Left out: 2 unreadable images." in page
    model = ended.object["model"]
    scored = discern("eval", model, data, "--device", "cpu", "--json")
    assert (1, "2 of 12 images cannot be read") == (scored.code, scored.error["what"])
    scored = discern("eval", model, data, "--device", "cpu", "--on-bad-image", "skip", "--json")
    assert (0, 10) == (scored.code, scored.object["metrics"]["count"])
    assert "left out: bee/01.jpg: " in scored.stderr


# ---- data that looks odd but is fine ----


def _save_modes(folder: Path, label: int) -> int:
    """Nine files of sizes and modes that cameras, scanners and web pages give; how many."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    grey = np.asarray(picture(label, 30).convert("L")).astype(np.uint16) * 257
    picture(label, 21).convert("CMYK").save(folder / "print.jpg")
    picture(label, 22).convert("P").save(folder / "palette.png")
    picture(label, 23).convert("RGBA").save(folder / "alpha.png")
    picture(label, 24).convert("LA").save(folder / "grey-alpha.png")
    picture(label, 25).convert("1").save(folder / "bits.png")
    Image.fromarray(grey).save(folder / "sixteen.png")
    picture(label, 26, (40, 23)).save(folder / "large.JPG")
    picture(label, 27, (20, 12)).save(folder / "turned.jpg", exif=exif)
    picture(label, 28, (1, 1)).save(folder / "dot.png")
    return 9


def test_mixed_sizes_and_modes_train_and_score(tmp_path: Path) -> None:
    data = make_images(tmp_path / "pets", each=3)
    added = _save_modes(data / "ant", 0) + _save_modes(data / "bee", 1)
    ended = discern("train", data, *QUICK, "--json")
    assert 0 == ended.code, ended.stderr
    counts = run_record(ended)["split"]["counts"]
    assert 6 + added == sum(sum(numbers.values()) for numbers in counts.values())
    model = ended.object["model"]
    images = sorted((data / "ant").iterdir())
    named = discern("predict", model, data / "ant", "--device", "cpu", "--json")
    assert [str(path) for path in images] == [
        row["image"] for row in named.object["predictions"]
    ], named.stderr


def test_class_names_with_odd_characters_survive_everywhere(tmp_path: Path) -> None:
    data = make_images(tmp_path / "odd ones ✓", ODD_NAMES, each=4)
    ended = discern("train", data, *QUICK, "--json")
    assert 0 == ended.code, ended.stderr
    assert sorted(ODD_NAMES) == run_record(ended)["classes"]
    report = Path(ended.object["report"])
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    table = (report / "per_class.csv").read_text(encoding="utf-8")
    assert "Ünï ✓" in table
    assert "\n=1+1" not in table  # no spreadsheet may run a class name as a formula
    assert '"it\'s ""q"""' in table
    model = Path(ended.object["model"])
    assert "<script>" not in (model / "README.md").read_text(encoding="utf-8")
    image = data / "-dash" / "00.jpg"
    named = discern("predict", model, image, "--top-k", "6", "--device", "cpu", "--json")
    (row,) = named.object["predictions"]
    assert set(ODD_NAMES) == {entry["class"] for entry in row["top"]}
    scored = discern("eval", model, data, "--device", "cpu", "--json")
    assert 24 == scored.object["metrics"]["count"], scored.stderr


# ---- what is asked for does not exist ----


@pytest.mark.parametrize(
    ("arguments", "what", "near"),
    [
        (("trian", "digits"), "no such command: trian", "'train'"),
        (("runs", "lst"), "no such command: lst", "'list'"),
        (("train", "digits", "--epohcs", "3"), "no such flag: --epohcs", "'--epochs'"),
        (("train", "digits", "--set", "stages.train.epohcs=3"), "unknown config key", "'epochs'"),
        (("train", "digits", "--set", "dta.seed=3"), "unknown config key 'dta'", "'data'"),
        (("config", "explain", "stages.train.epohcs"), "no config key", "epochs'"),
        (("runs", "show", "pets/mpl-1"), "there is no run 'pets/mpl-1'", ""),
        (("train", "digits", "--resume", "--fresh"), "exclude each other", ""),
        (("train", "--epochs", "3"), "train needs DATA", "discern train digits"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(
    arguments: tuple[str, ...], what: str, near: str
) -> None:
    ended = discern(*arguments, "--json")
    assert what in (ended.error["what"] or "")
    assert near in (ended.error["hint"] or "")
    assert (1 if arguments[:2] == ("runs", "show") else 2) == ended.code


@pytest.mark.feature("PP-02")
def test_unknown_key_in_a_file_is_placed_by_file_and_line(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("seed: 3\nstages:\n  train:\n    epohcs: 2\n", encoding="utf-8")
    ended = discern("train", "digits", "--config", config, "--json")
    assert 2 == ended.code
    assert f"{config}:4: stages.train.epohcs" == ended.error["where"]
    assert "'epochs'" in (ended.error["hint"] or "")
    config.write_text("seed: 3\nseed: 4\n", encoding="utf-8")
    ended = discern("train", "digits", "--config", config, "--json")
    assert (2, f"{config}:2", "seed") == (ended.code, ended.error["where"], ended.error["got"])


def test_value_that_does_not_fit_a_key_names_flag_and_value() -> None:
    ended = discern("train", "digits", "--on-bad-image", "skipp", "--json")
    assert 2 == ended.code
    assert "--on-bad-image: data.on_bad_image" == ended.error["where"]
    assert "skipp" in (ended.error["got"] or "")
    assert "'error' or 'skip'" in (ended.error["expected"] or "")


def test_value_that_is_no_number_names_flag_and_value() -> None:
    ended = discern("train", "digits", "--epochs", "banana", "--json")
    assert 2 == ended.code
    assert "--epochs" in (ended.error["where"] or "")
    assert "banana" == ended.error["got"]


@pytest.mark.parametrize("flag", ["--runs", "--out"])
def test_folder_that_cannot_be_written_is_told_in_full_form(
    flag: str, finished: tuple[Path, Path, Ended], tmp_path: Path
) -> None:
    data, _, made = finished
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    place = tmp_path / "file" / "below"
    given = ["train", str(data), *QUICK]
    if flag == "--out":
        given = ["runs", "export", made.object["path"]]
    ended = discern(*given, flag, place, *(["--json"] if flag == "--runs" else []))
    assert 1 == ended.code
    assert "Traceback" not in ended.stderr
    assert "error: a file or folder cannot be used" in ended.stderr
    assert str(tmp_path / "file") in ended.stderr
    assert flag == "--out" or "run" == ended.error["kind"]


def test_shares_that_leave_a_split_empty_are_refused(tmp_path: Path) -> None:
    """The scores of three images a class: one to learn from, one to choose by, one to be scored."""
    data = make_images(tmp_path / "pets", each=3)
    ended = discern("train", data, *QUICK, "--set", "data.val_share=0.5", "--json")
    assert 0 == ended.code, ended.stderr
    assert 2 == ended.object["metrics"]["count"]
    ended = discern("train", data, *QUICK, "--set", "data.test_share=0", "--json")
    assert (2, "data.test_share") == (ended.code, (ended.error["where"] or "").split()[-1])


def test_unknown_precision_is_refused_by_eval(finished: tuple[Path, Path, Ended]) -> None:
    data, _, made = finished
    ended = discern("eval", made.object["model"], data, "--precision", "fp8", "--json")
    assert (2, "--precision", "fp8") == (ended.code, ended.error["where"], ended.error["got"])


def test_size_that_the_network_cannot_take_is_refused_by_eval(
    finished: tuple[Path, Path, Ended],
) -> None:
    data, _, made = finished
    ended = discern("eval", made.object["model"], data, "--img-size", "32", "--json")
    assert "model" == ended.error["kind"]
    assert "16" in (ended.error["expected"] or "")


def test_folder_with_test_images_alone_can_be_scored_but_not_trained_on(
    finished: tuple[Path, Path, Ended], tmp_path: Path
) -> None:
    _, _, made = finished
    make_images(tmp_path / "held" / "test", each=4, first=40)
    ended = discern("eval", made.object["model"], tmp_path / "held", "--device", "cpu", "--json")
    assert 0 == ended.code, ended.stderr
    assert ("test", 8) == (ended.object["metrics"]["split"], ended.object["metrics"]["count"])
    ended = discern("train", tmp_path / "held", *QUICK, "--json")
    assert (1, "there is no train split") == (ended.code, ended.error["what"])


def test_list_of_images_from_windows_is_read(finished: tuple[Path, Path, Ended]) -> None:
    data, _, made = finished
    names = [str(data / "ant/00.jpg"), str(data / "bee/01.jpg")]
    ended = discern(
        "predict", made.object["model"], "-", "--device", "cpu", "--json",
        stdin="\r\n".join(names) + "\r\n",
    )  # fmt: skip
    assert names == [row["image"] for row in ended.object["predictions"]], ended.stderr


def test_empty_list_of_images_is_refused(finished: tuple[Path, Path, Ended]) -> None:
    _, _, made = finished
    ended = discern("predict", made.object["model"], "-", "--device", "cpu", "--json")
    assert (1, "there is no image to predict") == (ended.code, ended.error["what"])


def test_home_folder_is_expanded(tmp_path: Path) -> None:
    make_images(tmp_path / "pets")
    home = {"HOME": str(tmp_path), "DISCERN_CACHE": str(tmp_path / "cache")}
    ended = discern("train", "--set", "data.source=~/pets", *QUICK, "--json", env=home)
    assert 0 == ended.code, ended.stderr


def test_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    data = make_images(tmp_path / "pets")
    ended = discern("train", data, "--model", "resnet18x", "--json", "--runs", tmp_path / "runs")
    assert 2 == ended.code
    assert "unknown model 'resnet18x'" == ended.error["what"]
    assert "'resnet18'" in (ended.error["hint"] or "")
    assert not (tmp_path / "runs").exists()


def test_model_that_is_not_there_tells_what_a_model_can_be(tmp_path: Path) -> None:
    ended = discern("predict", "resnet18", tmp_path, "--device", "cpu", "--json")
    assert "no such model" == ended.error["what"]
    assert "--weights" in (ended.error["expected"] or "")


def test_resume_without_anything_to_resume_is_refused(tmp_path: Path) -> None:
    runs = ("--runs", tmp_path / "runs")
    ended = discern("train", "--resume", *runs, "--json")
    assert (2, "config") == (ended.code, ended.error["kind"])
    assert "there is no unfinished run to go on with" == ended.error["what"]
    assert str(tmp_path / "runs") == ended.error["where"]
    data = make_images(tmp_path / "pets")
    ended = discern("train", data, "--resume", *runs, *QUICK, "--json")
    assert 2 == ended.code
    assert "there is no unfinished run of this request" == ended.error["what"]
    assert "without --resume a new run starts" in (ended.error["hint"] or "")
    assert not (tmp_path / "runs").exists()


# ---- one run that later tests damage in copies ----


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Ended]:
    """(images, folder of runs, how it ended) of a finished run with three checkpoints."""
    root = tmp_path_factory.mktemp("finished")
    data = make_images(root / "pets")
    ended = discern(
        "train", data, *QUICK, "--epochs", "3", "--runs", root / "runs", "--json", "--name", "base",
        env={"DISCERN_CACHE": str(root / "cache")},
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    return data, root / "runs", ended


@pytest.fixture
def copied(finished: tuple[Path, Path, Ended], tmp_path: Path) -> tuple[Path, Path]:
    """(images, the run's folder) of a copy of the finished run."""
    data, runs, _ = finished
    shutil.copytree(runs, tmp_path / "runs")
    return data, tmp_path / "runs" / "pets" / "base"


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_data_with_classes_unknown_to_the_model_is_refused(
    finished: tuple[Path, Path, Ended], tmp_path: Path
) -> None:
    _, _, made = finished
    other = make_images(tmp_path / "more", ("ant", "bea", "wasp"), each=2)
    run = Path(made.object["path"])
    checkpoint = run / "checkpoints" / "step-3"
    for model in (run / "model", checkpoint):
        ended = discern("eval", model, other, "--device", "cpu", "--json")
        assert (1, "data") == (ended.code, ended.error["kind"])
        assert "the data has a class that the model does not know" == ended.error["what"]
        assert "bea, wasp" == ended.error["got"]
        assert "2 classes: ant, bee" == ended.error["expected"]
        assert "'bee'" in (ended.error["hint"] or "")


def test_damaged_bundle_is_named_and_not_used(copied: tuple[Path, Path]) -> None:
    data, run = copied
    weights = run / "model" / "model.safetensors"
    _flip_a_byte(weights)
    ended = discern("predict", run / "model", data / "ant/00.jpg", "--device", "cpu", "--json")
    assert (1, "model") == (ended.code, ended.error["kind"])
    assert "SHA-256" in (ended.error["what"] or "")
    assert str(weights) == ended.error["where"]
    assert ended.error["hint"]
    (run / "model" / "sha256.json").write_text("{", encoding="utf-8")
    ended = discern("eval", run / "model", data, "--device", "cpu", "--json")
    assert (1, "model") == (ended.code, ended.error["kind"])
    assert str(run / "model" / "sha256.json") == ended.error["where"]


def test_damaged_newest_checkpoint_is_named_and_the_previous_used(
    copied: tuple[Path, Path],
) -> None:
    data, run = copied
    newest, previous = (run / "checkpoints" / name for name in ("step-3", "step-2"))
    _flip_a_byte(newest / "model.safetensors")
    kept = _tree(previous)
    ended = discern("eval", newest, data, "--device", "cpu", "--json")
    assert (1, "run") == (ended.code, ended.error["kind"])
    assert str(newest / "model.safetensors") == ended.error["where"]
    ended = discern(
        "train", "--resume", "base", "--epochs", "4", "--runs", run.parent.parent, "--json"
    )
    assert 0 == ended.code, ended.stderr
    assert "checkpoint step-3 is passed over" in ended.stderr
    assert "train 3/4" in ended.stderr
    assert "train 2/4" not in ended.stderr
    if previous.exists():  # it may have been dropped for better ones since
        assert kept == _tree(previous)


# ---- training that goes wrong ----


def test_loss_that_is_not_finite_fails_in_full_form(tmp_path: Path) -> None:
    data = make_images(tmp_path / "pets")
    ended = discern("train", data, *QUICK, "--epochs", "3", "--lr", "1e9", "--json")
    assert (1, "run") == (ended.code, ended.error["kind"])
    assert "the loss does not stay finite" == ended.error["what"]
    assert "stage train" in (ended.error["where"] or "")
    assert "--lr" in (ended.error["hint"] or "")


def _in_small_disk(
    folder: Path, copy: Path, size: str, arguments: list[str]
) -> subprocess.CompletedProcess[str]:
    """Run `discern ARGUMENTS` where `folder` is a file system of `size`, kept as `copy`.

    The mount lives in a name space of the child's own: it is gone with the child.
    """
    script = (
        'mount -t tmpfs -o size="$1" tmpfs "$2" || exit 99; to="$3"; at="$2"; shift 3;'
        '"$@"; code=$?; cp -a "$at" "$to"; exit $code'
    )
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", size, str(folder), str(copy),
         sys.executable, "-m", "discern.cli.main", *arguments],
        env=environment(), capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip


def _may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None or not Path("/mnt").is_dir():
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_full_disk_stops_the_run_which_goes_on_when_there_is_room(tmp_path: Path) -> None:
    if not _may_mount():
        pytest.skip("needs the right to mount a small file system")
    data, small, copy = make_images(tmp_path / "pets"), tmp_path / "small", tmp_path / "copy"
    small.mkdir()
    request = ["train", str(data), *QUICK, "--epochs", "4", "--name", "full", "--json"]
    done = _in_small_disk(small, copy, "3m", [*request, "--runs", str(small)])
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert (1, "run") == (ended.code, ended.error["kind"]), ended.stderr
    assert "full" in (ended.error["what"] or "")
    assert "MB" in (ended.error["got"] or "")
    assert "the same command again" in (ended.error["hint"] or "")
    run = copy / "pets" / "full"
    assert "failed" == json.loads((run / "exit.json").read_text())["status"]
    saved = {path.name: _tree(path) for path in (run / "checkpoints").glob("step-*")}
    assert len(saved) >= 1
    assert not list(run.rglob(".*tmp-*"))
    again = discern(*request, "--runs", copy)
    assert 0 == again.code, again.stderr
    assert "resume   pets/full" in again.stderr
    assert "pets/full" == again.object["run"]
    for name, files in saved.items():
        if (run / "checkpoints" / name).exists():
            assert files == _tree(run / "checkpoints" / name)


def test_interrupted_run_is_saved_and_the_same_command_finishes_it(tmp_path: Path) -> None:
    request = ["train", "digits", "--model", "mlp", "--epochs", "12", "--device", "cpu",
               "--precision", "fp32", "--json", "--runs", str(tmp_path / "runs")]  # fmt: skip
    child = start(*request)
    seen = []
    for line in child.stderr or []:
        seen.append(line)
        if line.startswith("train  2/12"):
            break
    else:
        pytest.fail("".join(seen))
    child.send_signal(signal.SIGTERM)
    started = time.monotonic()
    stdout, stderr = child.communicate(timeout=60)
    ended = Ended(child.returncode, stdout, "".join(seen) + stderr)
    assert (130, "interrupted") == (ended.code, ended.error["kind"]), ended.stderr
    assert time.monotonic() - started < 30
    (run,) = (tmp_path / "runs" / "digits").iterdir()
    assert "interrupted" == json.loads((run / "run.json").read_text())["status"]
    again = discern(*request)
    assert 0 == again.code, again.stderr
    assert f"resume   digits/{run.name}" in again.stderr
    assert "train  1/12" not in again.stderr
    assert 2 == run_record(again)["attempt"]
    assert again.object["metrics"]["accuracy"] > 0.9
