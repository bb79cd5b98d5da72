"""`discern embed` and `discern index`: from images to the nearest ones, and what is refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from discern_process import discern
from PIL import Image

import discern as api
from discern.base.errors import ConfigError
from discern.data.feature_files import read_feature_table
from discern.data.head_spec import HeadSpec
from discern.data.images import Preprocess
from discern.exporting.bundle import save_bundle
from discern.exporting.content import BundleContent, GoldenImage
from discern.models.catalogue import ModelRequest, build_model


def _bundle(path: Path, classes: tuple[str, ...] = ("dark", "light"), seed: int = 0) -> Path:
    import torch

    torch.manual_seed(seed)
    request = ModelRequest(name="mlp", num_classes=2, channels=1, image_size=(8, 8))
    model = build_model(request).model.eval()
    save_bundle(
        path,
        BundleContent(
            model=model,
            architecture="discern/mlp",
            heads=(HeadSpec("label", "single", classes),),
            preprocess=Preprocess(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,)),
            golden_images=(GoldenImage("one", np.zeros((8, 8, 1), np.uint8)),),
        ),
    )
    return path


def _images(folder: Path, count: int = 6, *, classes: bool = True, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(count):
        base = 60 if number % 2 else 190
        pixels = (base + rng.integers(-40, 40, (8, 8))).astype(np.uint8)
        place = folder / ("dark" if number % 2 else "light") if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


@pytest.mark.feature("CA-06")
def test_features_are_a_row_an_image_in_the_order_of_the_table(tmp_path: Path) -> None:
    bundle, images = _bundle(tmp_path / "model"), _images(tmp_path / "images")
    names = ["light/4.png", "dark/1.png", "light/0.png"]
    table = tmp_path / "images" / "rows.csv"
    table.write_text("path,label\n" + "".join(f"{n},{n.partition('/')[0]}\n" for n in names))
    done = discern("embed", bundle, table, "--out", tmp_path / "f.npy", "--json").object
    assert (3, "features") == (done["rows"], done["layer"])
    features = np.load(tmp_path / "f.npy")
    rows = read_feature_table(tmp_path / "f.npy")
    assert names == rows.paths.tolist()
    assert [1, 0, 1] == rows.head().targets.tolist()
    expected = api.load(bundle).predict([images / name for name in names]).features
    assert np.allclose(expected, features, atol=1e-5)
    assert np.array_equal(features, api.embed(bundle, table).features)


def test_a_split_that_the_data_lacks_is_the_one_that_training_draws(tmp_path: Path) -> None:
    bundle, images = _bundle(tmp_path / "model"), _images(tmp_path / "images", 40)
    tables = [api.embed(bundle, images, split=name) for name in ("train", "val", "test")]
    assert [28, 6, 6] == [len(table) for table in tables]
    assert 40 == len({one for table in tables for one in table.ids.tolist()})
    halves = tmp_path / "halves"
    for number, name in enumerate(("train", "test")):
        _images(halves / name, 40, seed=number)
    tables = [api.embed(bundle, halves, split=name) for name in ("train", "val", "test")]
    assert [36, 4, 40] == [len(table) for table in tables]


def test_a_layer_and_a_folder_without_classes(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "model")
    images = _images(tmp_path / "flat", classes=False)
    layers = [name for name, _ in api.load(bundle).model.network.named_modules() if name]
    table = api.embed(bundle, images, layer=layers[-1])
    assert (6, 2) == table.features.shape
    assert () == table.heads
    with pytest.raises(ConfigError, match="no such layer"):
        api.embed(bundle, images, layer="nothing")


@pytest.mark.feature("CA-11")
def test_an_index_is_built_checked_and_searched(tmp_path: Path) -> None:
    bundle, images = _bundle(tmp_path / "model"), _images(tmp_path / "images", 12)
    discern("embed", bundle, images, "--out", tmp_path / "f.parquet", "-q")
    index = tmp_path / "index"
    built = discern(
        "index", "build", tmp_path / "f.parquet", "--pca", "4", "--out", index, "--json"
    )
    assert 0 < built.object["explained_variance"] <= 1
    assert "exact" == built.object["search"]
    checked = discern("index", "check", index, tmp_path / "f.parquet", "--json").object
    assert ["1", "3", "5", "10"] == list(checked["recall"])
    assert (1.0, 12) == (checked["recall"]["10"], checked["own_left_out"])
    query = next((images / "dark").iterdir())
    found = discern("index", "search", index, query, "0", "-k", "3", "--json").object["queries"]
    assert f"dark/{query.name}" == found[1]["neighbors"][0]["path"]
    assert [1, 2, 3] == [one["rank"] for one in found[0]["neighbors"]]
    (tmp_path / "broken.png").write_bytes(b"no image")
    failed = discern("index", "search", index, tmp_path / "broken.png", "--json")
    assert (1, "data") == (failed.code, failed.error["kind"])
    other = discern(
        "index", "search", index, query, "--model", _bundle(tmp_path / "other", seed=1), "--json"
    )
    assert "another model" in str(other.error["what"])


def _embedded(data: Path, name: str, archive: str, folder: Path) -> Path:
    with tarfile.open(data / name / archive) as stream:
        stream.extractall(folder, filter="data")
    return data / "weights" / "mobilenetv2_100.safetensors"


@pytest.mark.slow
@pytest.mark.feature("CA-10")
@pytest.mark.timeout(1800)  # 960 photos pass a network, on a busy machine
def test_flowers_find_their_species(shared_data: Path, tmp_path: Path) -> None:
    """The figures of docs/benchmarks.md, within one image of 240."""
    weights = _embedded(shared_data, "flowers12", "flowers12.tar", tmp_path)
    train, test = (
        api.embed("mobilenetv2_100", tmp_path / part, weights=weights) for part in ("train", "test")
    )
    index = api.Index.build(train, pca=128)
    assert index.explained_variance == pytest.approx(0.776, abs=0.001)
    found = index.recall(test, (1, 5)).by_rank
    assert (found[1], found[5]) == pytest.approx((0.917, 0.988), abs=0.005)
    plain = api.Index.build(train).recall(test, (1, 5)).by_rank
    assert (plain[1], plain[5]) == pytest.approx((0.913, 0.988), abs=0.005)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 400 photos pass a network, on a busy machine
def test_dogs_find_dogs_among_400_photos(shared_data: Path, tmp_path: Path) -> None:
    """47 of the 400 are dogs, each of another breed: 12 % by chance."""
    weights = _embedded(shared_data, "imagenet_samples", "imagenet_samples_400.tar", tmp_path)
    table = api.embed("mobilenetv2_100", tmp_path, weights=weights)
    wnids = np.array([Path(path).name[:9] for path in table.paths.tolist()])
    dogs = (wnids >= "n02085620") & (wnids <= "n02113978")
    assert dogs.sum() == 47
    index = api.Index.build(table, pca=128)
    nearest = index.search_rows(np.flatnonzero(dogs).tolist(), 1).rows[:, 0]
    assert dogs[nearest].mean() >= 0.85
