"""Parts by import path: what does not fit is told before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError, DataError
from discern.base.plugins import open_import_path, path_of
from discern.config.schema import RunConfig
from discern.data.own_source import is_own_source
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.feed.augment import Policy, SmallImageAugment, describe_augment
from discern.feed.own_augment import own_augment
from discern.feed.policies import PolicyContext
from discern.training.trainer import Trainer
from discern.training.trainers import open_trainer
from discern.worker.parts import check_parts

PARTS = """
import numpy as np


class Images:
    classes = ("b", "a")

    def __init__(self, count=9, split=None):
        self.labels = ["a" if k % 2 else "b" for k in range(count)]
        if split is not None:
            self.split = split

    def read(self, position):
        return np.full((4, 4, 3), position, dtype=np.uint8)


class Broken(Images):
    def read(self, position):
        return [position]


class Unlabeled:
    def read(self, position):
        return b""


class Darker:
    draws, gentle = 1, False

    def __init__(self, context, by=2):
        self.by, self.flip = by, context.flip

    def apply(self, images, rows):
        return images // self.by


def network(num_classes, channels, image_size, width=8): ...
def loss(output, targets, scale=1.0): ...
def metric(table, unit=1.0): ...
def callback(file): ...


class Loop:
    def __init__(self, plan, state, session, train_mode, *, times=2): ...
    def run_stage(self, checkpoint=None): ...
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(PARTS)
    return str(path)


def _config(file: str, **changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "source": "Images", "source_args": {"count": 3}, "model": "network",
        "model_args": {"width": 2}, "augment": "Darker", "augment_args": {"by": 3},
        "objective": "loss", "objective_args": {"scale": 2.0}, "trainer": "Loop",
        "trainer_args": {"times": 1}, "metric": "metric", "metric_args": {"unit": 2.0},
        "callback": "callback", "callback_args": {"file": "x"}, **changes,
    }  # fmt: skip

    def spec(part: str) -> dict[str, Any]:
        return {"name": f"{file}:{values[part]}", "args": values[f"{part}_args"]}

    stage = {part: spec(part) for part in ("augment", "objective", "trainer")}
    tracking = {f"{part}s": [spec(part)] for part in ("metric", "callback")}
    data = {"source": f"{file}:{values['source']}", "source_args": values["source_args"]}
    record = {"data": data, "model": spec("model"), "stages": {"one": stage}, "tracking": tracking}
    return RunConfig.model_validate(record)


def test_parts_that_fit_are_taken(file: str) -> None:
    check_parts(_config(file))


@pytest.mark.parametrize(
    "part", ["source", "model", "augment", "objective", "trainer", "metric", "callback"]
)
def test_argument_that_the_signature_lacks_is_named(part: str, file: str) -> None:
    with pytest.raises(ConfigError, match="unknown argument 'hwo'") as raised:
        check_parts(_config(file, **{f"{part}_args": {"hwo": 1}}))
    assert "mine.py" in str(raised.value.where)


@pytest.mark.parametrize("part", ["source", "model", "augment", "objective", "trainer", "metric"])
def test_name_that_the_module_lacks_is_named(part: str, file: str) -> None:
    with pytest.raises(ConfigError, match="has no 'lop'"):
        check_parts(_config(file, **{part: "lop", f"{part}_args": {}}))


def test_argument_without_a_default_must_be_given(file: str) -> None:
    with pytest.raises(ConfigError, match="'file' is missing"):
        check_parts(_config(file, callback_args={}))


def test_what_discern_gives_cannot_be_given(file: str) -> None:
    with pytest.raises(ConfigError, match="'context' is set by Discern"):
        check_parts(_config(file, augment_args={"context": 1}))


def test_class_without_run_stage_is_no_trainer(file: str) -> None:
    with pytest.raises(ConfigError, match="not a trainer"):
        open_trainer(f"{file}:UnlabeledLoop".replace("UnlabeledLoop", "Unlabeled"))


def test_trainers_have_names() -> None:
    assert Trainer is open_trainer("standard")
    with pytest.raises(ConfigError, match="no such trainer"):
        open_trainer("fast")


def test_existing_path_is_never_taken_for_a_source(tmp_path: Path) -> None:
    (tmp_path / "photos.py:set").mkdir()
    assert not is_own_source(str(tmp_path / "photos.py:set"))
    assert is_own_source("kit.sources:Photos")
    assert not is_own_source("/data/photos:set")
    assert not is_own_source("digits")


def test_own_source_gives_labels_splits_and_pixels(file: str) -> None:
    split = ["train"] * 5 + ["val", "val", "test", "test"]
    request = DataRequest(train=f"{file}:Images", source_args={"split": split})
    manifest = scan_data(request).manifest
    assert ("b", "a") == manifest.classes
    assert [0, 1, 0, 1, 0, 1, 0, 1, 0] == manifest.targets.tolist()
    assert {"train": 5, "val": 2, "test": 2} == manifest.sizes()
    source = open_source(manifest.select(np.array([7, 2])))
    assert [7, 2] == [int(np.asarray(source.read(k))[0, 0, 0]) for k in (0, 1)]
    assert f"{file}:Images#7" == source.name(0)


def test_own_source_of_other_values_is_another_data_set(file: str) -> None:
    nine, three = (
        scan_data(DataRequest(train=f"{file}:Images", source_args={"count": count}, split=None))
        for count in (9, 8)
    )
    assert nine.manifest.hash != three.manifest.hash


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("Unlabeled", {}, "not a source"),
        ("Broken", {}, "images cannot be read"),
        ("Images", {"split": ["train"]}, "a split for each image"),
        ("Images", {"split": ["night"] * 9}, "a split for each image"),
    ],
)
def test_broken_source_is_refused(
    name: str, arguments: dict[str, Any], words: str, file: str
) -> None:
    with pytest.raises(DataError, match=words):
        scan_data(DataRequest(train=f"{file}:{name}", source_args=arguments))


def test_own_operation_stands_behind_crop_and_mirror(file: str) -> None:
    context = PolicyContext(small=True, crop=SmallImageAugment(pad=2), flip=True)
    made = own_augment(f"{file}:Darker", context, {"by": 4})
    assert f"{file}:Darker" in describe_augment(made)
    assert isinstance(made, Policy)
    assert SmallImageAugment(pad=2, flip=False) == made.framing
    assert ["Mirror", "Darker"] == [type(step.operation).__name__ for step in made.steps]
    images = torch.full((2, 3, 4, 4), 80, dtype=torch.uint8)
    assert 20 == made.steps[1].operation.apply(images, np.zeros((2, 1))).max()
    with pytest.raises(ConfigError, match="not an augmentation"):
        own_augment(f"{file}:Images", context)


def test_of_two_files_of_one_name_each_tells_its_own_path(tmp_path: Path) -> None:
    homes = [tmp_path / "one" / "twins.py", tmp_path / "two" / "twins.py"]
    for home in homes:
        home.parent.mkdir()
        home.write_text("class Twin:\n    def call(self):\n        return 1\n")
        kind = open_import_path(f"{home}:Twin", where="augment")
        assert f"{home}:Twin" == path_of(kind)
