"""`discern review` and `discern data decide` as people use them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from discern_process import QUICK, discern, make_images, picture, run_record

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError
from discern.config.request import Request
from discern.data.feature_files import FeatureTable, write_feature_table
from discern.data.scan import DataRequest, scan_data
from discern.data.table_files import Table, write_table
from discern.worker.review import review_request

ARGUMENTS = {"folds": 3, "seed": 0, "batch_size": 16}


def make_review(data: Path, out: Path, pairs=(), **arguments):
    """`discern review` in this process."""
    given = ARGUMENTS | {"data": str(data), "out": str(out)} | arguments
    return review_request(
        Request(verb="review", arguments=given, pairs=list(pairs)), Console(quiet=True)
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve ants and twelve bees; the ant 99 is a bee, and ant 98 the bytes of bee 00."""
    root = make_images(tmp_path / "photos", each=12, size=(40, 40))
    picture(1, 99, (40, 40)).save(root / "ant" / "99.jpg", quality=90)
    (root / "ant" / "98.jpg").write_bytes((root / "bee" / "00.jpg").read_bytes())
    return root


def test_found_decided_trained_and_undone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "look"
    words = ("review", photos, "--out", out, "--folds", "3", "--curve", "--json")
    found = discern(*words, "--device", "cpu").object
    assert "no network" in found["evidence"]
    assert [26, 26] == [found["images"], found["labeled"]]
    first = found["queue"][:3]
    assert {"ant/98.jpg", "ant/99.jpg", "bee/00.jpg"} == {row["path"] for row in first}
    by_path = {row["path"]: row for row in first}
    assert "same image" in by_path["ant/98.jpg"]["reasons"]
    assert ["confident", "neighbors", "high loss"] == by_path["ant/99.jpg"]["reasons"]
    assert ("ant", "bee") == (by_path["ant/99.jpg"]["label"], by_path["ant/99.jpg"]["suggested"])
    for name in ("queue", "parquet", "images", "page", "record", "curve", "curve_table"):
        assert Path(found["files"][name]).stat().st_size > 0
    page = (out / "index.html").read_text()
    assert ("ant/99.jpg" in page, "<script" in page) == (True, False)

    with open(out / "queue.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["decision"] = {"ant/98.jpg": "drop", "ant/99.jpg": "accept"}.get(row["path"], "")
    edited = tmp_path / "edited.csv"
    with open(edited, "w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    told = discern("data", "decide", out, "--from", edited, "--keep", "bee/00.jpg", "--json").object
    assert (1, 1, 1, 1) == tuple(told[name] for name in ("version", "relabel", "drop", "keep"))

    trained = discern("train", photos, "--overlay", out, *QUICK, "--json")
    assert "overlay v1: 1 label changed, 1 image left out" in trained.stderr
    counts = run_record(trained)["split"]["counts"].values()
    assert (12, 13) == tuple(sum(count[name] for count in counts) for name in ("ant", "bee"))

    again = discern(*words, "--device", "cpu").object  # what was decided is not asked again
    assert (25, 2, 1) == (again["images"], again["kept"], again["overlay"])
    assert not {"ant/99.jpg", "bee/00.jpg"} & {row["path"] for row in again["queue"]}

    undone = discern("data", "decide", out, "--undo", "--json").object
    assert (2, 0, 0, 0) == tuple(undone[n] for n in ("version", "relabel", "drop", "keep"))
    shown = discern("data", "decide", out, "--diff", "1:2", "--json").object
    assert {"path": "ant/99.jpg", "before": "ant -> bee", "after": None} == {
        name: value
        for name, value in next(c for c in shown["changes"] if c["path"] == "ant/99.jpg").items()
        if name != "id"
    }
    assert 2 == len(discern("data", "decide", out, "--json").object["versions"])


def test_bad_input_is_told_before_anything_is_computed(photos: Path, tmp_path: Path) -> None:
    wrong = discern("review", photos, "--threshold", "1.5", "--json")
    assert (2, "the threshold is out of range") == (wrong.code, wrong.error["what"])
    wrong = discern("review", photos, "--suspects", "none", "--json")
    assert "own or cleanlab" == wrong.error["expected"]
    with pytest.raises(ConfigError, match="weights of no network"):
        make_review(photos, tmp_path / "out", [("--weights", "model.weights", "pretrained")])
    with pytest.raises(ConfigError, match="no such split"):
        make_review(photos, tmp_path / "out", split="test")
    with pytest.raises(ConfigError, match="no such label column"):
        make_review(photos, tmp_path / "out", head="color")
    with pytest.raises(ConfigError, match="no finished cross-validation"):
        make_review(photos, tmp_path / "out", kfold="nowhere")
    (tmp_path / "one" / "ant").mkdir(parents=True)
    picture(0, 0).save(tmp_path / "one" / "ant" / "0.jpg")
    with pytest.raises(DataError, match="at least two classes"):
        make_review(tmp_path / "one", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_of_one_image_is_told_and_left_out(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images(photos, ("cat",), each=1, size=(40, 40))
    found = make_review(photos, tmp_path / "out")
    assert (27, 26, ["cat"]) == (found["images"], found["labeled"], found["not_checked"])
    assert "1 class of one image" in capsys.readouterr().err
    assert not [row for row in found["queue"] if row["label"] == "cat"]


def test_probabilities_of_a_cross_validation(photos: Path, tmp_path: Path) -> None:
    manifest = scan_data(DataRequest(train=str(photos), split=None)).manifest
    bee = np.array([path.startswith("bee") for path in manifest.locations.paths]) * 0.8 + 0.1
    bee[manifest.locations.paths.tolist().index("ant/99.jpg")] = 0.95
    order = np.arange(len(bee))[::-1]  # rows are found by id
    columns = {
        "id": manifest.ids[order].tolist(),
        "probability/ant": (1 - bee)[order].tolist(),
        "probability/bee": bee[order].tolist(),
    }
    group = tmp_path / "runs" / "photos" / "kfold-1"
    group.mkdir(parents=True)
    write_table(group / "predictions.parquet", Table(columns))
    found = make_review(
        photos, tmp_path / "out", kfold="photos/kfold-1", runs=str(tmp_path / "runs")
    )
    assert "ant/99.jpg" == found["queue"][0]["path"]
    assert (0.95, None) == (found["queue"][0]["score"], found["queue"][0]["neighbors"])
    assert "no neighbors" in found["evidence"]
    with pytest.raises(ConfigError, match="learning curves need features"):
        make_review(photos, tmp_path / "o2", kfold=str(group), curve=True)
    write_table(group / "predictions.parquet", Table({k: v[1:] for k, v in columns.items()}))
    with pytest.raises(DataError, match="1 of 26 images were not in the cross-validation"):
        make_review(photos, tmp_path / "o2", kfold=str(group))
    del columns["probability/bee"]
    write_table(group / "predictions.parquet", Table(columns))
    with pytest.raises(DataError, match="did not know all classes"):
        make_review(photos, tmp_path / "o2", kfold=str(group))


def test_features_of_a_file_are_found_by_id(photos: Path, tmp_path: Path) -> None:
    manifest = scan_data(DataRequest(train=str(photos), split=None)).manifest
    paths = manifest.locations.paths
    bee = np.array([path.startswith("bee") or path == "ant/99.jpg" for path in paths])
    rng = np.random.default_rng(0)
    values = rng.normal(size=(len(bee), 6)).astype(np.float32)
    values[:, 0] += 8 * bee
    order = rng.permutation(len(bee))
    table = FeatureTable(
        features=values[order], ids=manifest.ids[order], paths=paths[order],
        split=manifest.split[order],
    )  # fmt: skip
    file = tmp_path / "f.parquet"
    write_feature_table(file, table)
    found = make_review(photos, tmp_path / "out", features=str(file))
    assert "ant/99.jpg" == found["queue"][0]["path"]
    assert f"6 features in {file}" in found["evidence"]
    write_feature_table(file, table.select(np.arange(20)))
    with pytest.raises(DataError, match="6 of 26 images have no features"):
        make_review(photos, tmp_path / "out", features=str(file))
    values[order[3], 2] = np.nan
    write_feature_table(file, replace(table, features=values[order]))
    with pytest.raises(DataError, match="1 of 26 images are not finite"):
        make_review(photos, tmp_path / "out", features=str(file))


def test_a_network_passes_the_images_once(photos: Path, tmp_path: Path) -> None:
    bundle = Path(__file__).parents[1] / "golden" / "bundle_v1"
    found = make_review(photos, tmp_path / "out", model=str(bundle))
    assert f"features of {bundle}" in found["evidence"]
    again = make_review(photos, tmp_path / "out", model=str(bundle))
    assert "kept in" in again["evidence"]
    assert found["queue"] == again["queue"]


def test_the_functions_of_the_package_do_the_same(photos: Path, tmp_path: Path) -> None:
    import discern as api

    out = tmp_path / "look"
    found = api.review(photos, out=out, folds=3)
    ranks = {row["path"]: row["rank"] for row in found["queue"]}
    overlay = api.decide(out, accept=[ranks["ant/99.jpg"]], relabel={"ant/98.jpg": "bee"})
    scanned = scan_data(DataRequest(train=str(photos), overlay=str(overlay)))
    assert (12, 14) == tuple(scanned.manifest.head.counts().values())
    with pytest.raises(ConfigError, match="out of range"):
        api.review(photos, out=out, threshold=1.5)
    with pytest.raises(DataError):
        api.decide(out, drop=["no-such.jpg"])


@pytest.mark.slow
@pytest.mark.timeout(900)  # 720 photos pass a network, on a busy machine
def test_five_percent_of_flipped_labels_are_at_the_head_of_the_queue(
    shared_data: Path, tmp_path: Path
) -> None:
    import tarfile

    with tarfile.open(shared_data / "flowers12" / "flowers12.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    files = sorted((tmp_path / "train").rglob("*.jpg"))
    classes = sorted({path.parent.name for path in files})
    rng = np.random.default_rng(0)
    flipped = set(rng.permutation(len(files))[: round(0.05 * len(files))].tolist())
    given = [path.parent.name for path in files]
    for place in sorted(flipped):
        other = classes.index(given[place]) + int(rng.integers(1, len(classes)))
        given[place] = classes[other % len(classes)]
    table = tmp_path / "flipped.csv"
    write_table(table, Table({"path": [str(path) for path in files], "label": given}))
    weights = shared_data / "weights" / "mobilenetv2_100.safetensors"
    make_review(
        table, tmp_path / "out", [("--weights", "model.weights", str(weights))],
        model="mobilenetv2_100", folds=5,
    )  # fmt: skip
    queue = json.loads((tmp_path / "out" / "review.json").read_text())["queue"][: len(flipped)]
    wrong = {str(files[place]) for place in flipped}
    assert sum(row["path"] in wrong for row in queue) >= 0.8 * len(flipped)
