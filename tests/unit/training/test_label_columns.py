"""What a stage makes of several label columns: which one is balanced, and empty cells."""

import numpy as np
import pytest
import torch
from PIL import Image

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.training.material import FeedSettings, Material

PREPROCESS = Preprocess(height=16, width=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def scanned(tmp_path):
    """Nine images: six red and three blue ones, of shapes by threes, the tags of three empty."""
    rows = ["path,color,shape,tags,split"]
    for number in range(9):
        pixels = np.full((16, 16, 3), 20 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        color = "red" if number < 6 else "blue"
        tags = ("a;b", "b", "")[number % 3]
        split = "val" if number in (0, 8) else "train"
        rows.append(f"{number}.png,{color},s{number % 3},{tags},{split}")
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    return lambda label: (
        scan_data(DataRequest(train=str(tmp_path / "data.csv"), label=label, split=None)).manifest
    )


def material_of(manifest):
    settings = FeedSettings(device=torch.device("cpu"), workers=0, seed=0, flip=False)
    return Material(manifest, open_source(manifest), PREPROCESS, settings)


def test_the_column_that_is_named_is_balanced(scanned):
    material = material_of(scanned(["color", "shape"]))
    sampler = material.sampler("down", {"head": "color"}, None)
    rows = material.positions("train")[sampler.draw(0, 0)]
    assert [2, 2] == np.bincount(material.manifest.heads[0].targets[rows]).tolist()
    up = material.sampler("up", {"head": "shape"}, None)
    rows = material.positions("train")[up.draw(0, 0)]
    assert [3, 3, 3] == np.bincount(material.manifest.heads[1].targets[rows]).tolist()


def test_without_a_choice_several_columns_are_not_balanced(scanned):
    material = material_of(scanned(["color", "shape"]))
    with pytest.raises(ConfigError, match="one label column") as refused:
        material.sampler("down", {}, None)
    assert "color, shape" == refused.value.expected
    assert "args: {head: color}" == refused.value.hint
    with pytest.raises(ConfigError, match="one label column"):
        material.sampler("3", {"head": "hue"}, None)
    tags = material_of(scanned({"tags": {"kind": "multi", "delimiter": ";"}}))
    with pytest.raises(ConfigError, match="one label an image"):
        tags.sampler("down", {}, None)


@pytest.mark.parametrize(("empty", "expected"), [("none", 0.0), ("missing", np.nan)])
def test_an_empty_cell_of_tags_is_unknown_or_says_none(scanned, empty, expected):
    label = {"tags": {"kind": "multi", "delimiter": ";", "empty": empty}}
    (head,) = scanned(label).heads
    assert ("a", "b") == head.classes
    rows = [[1.0, 1.0], [0.0, 1.0], [expected, expected]] * 3
    np.testing.assert_array_equal(head.targets, np.array(rows, dtype=np.float32))
