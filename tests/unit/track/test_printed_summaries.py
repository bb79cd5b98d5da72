"""Model summaries that Keras, torchinfo and torchsummary print, as records."""

from __future__ import annotations

import pytest

from discern.base.errors import RunError
from discern.track.model_summary import read_summary, summary_line, write_summary
from discern.track.printed.axes import SeriesAxes
from discern.track.printed.output import OutputReader

# One network in all: a convolution of 32 3 x 3 filters (32 x (9 + 1) parameters) on 28 x 28, then
# a linear layer from 32 x 26 x 26 to 10 (10 x (21,632 + 1) parameters).
CONV, LINEAR = 320, 216_330

KERAS_3 = """\
Model: "sequential"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ conv2d (Conv2D)                 │ (None, 26, 26, 32)     │           320 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ flatten (Flatten)               │ (None, 21632)           │             0 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dense (Dense)                   │ (None, 10)             │       216,330 │
└─────────────────────────────────┴────────────────────────┴───────────────┘
 Total params: 216,650 (846.29 KB)
 Trainable params: 216,330 (845.04 KB)
 Non-trainable params: 320 (1.25 KB)
Epoch 1/2
"""
KERAS_2 = """\
Model: "sequential"
_________________________________________________________________
 Layer (type)                Output Shape              Param #
=================================================================
 conv2d (Conv2D)             (None, 26, 26, 32)        320

 flatten (Flatten)           (None, 21632)             0

 dense (Dense)               (None, 10)                216330

=================================================================
Total params: 216,650
Trainable params: 216,650
Non-trainable params: 0
_________________________________________________________________
"""
TORCHINFO = """\
==========================================================================================
Layer (type:depth-idx)                   Output Shape              Param #
==========================================================================================
Net                                      [2, 10]                   --
├─Sequential: 1-1                        [2, 32, 26, 26]           --
│    └─Conv2d: 2-1                       [2, 32, 26, 26]           320
│    └─ReLU: 2-2                         [2, 32, 26, 26]           --
├─Linear: 1-2                            [2, 10]                   216,330
==========================================================================================
Total params: 216,650
Trainable params: 216,650
Non-trainable params: 0
Total mult-adds (Units.MEGABYTES): 0.81
==========================================================================================
Input size (MB): 0.00
Forward/backward pass size (MB): 0.17
Params size (MB): 0.87
Estimated Total Size (MB): 1.04
==========================================================================================
"""
TORCHSUMMARY = """\
----------------------------------------------------------------
        Layer (type)               Output Shape         Param #
================================================================
            Conv2d-1           [-1, 32, 26, 26]             320
            Linear-2                   [-1, 10]         216,330
================================================================
Total params: 216,650
Trainable params: 216,650
Non-trainable params: 0
----------------------------------------------------------------
Input size (MB): 0.00
Forward/backward pass size (MB): 0.17
Params size (MB): 0.83
Estimated Total Size (MB): 1.00
----------------------------------------------------------------
"""


def summary_of(text):
    reader = OutputReader(SeriesAxes())
    points = reader.feed(text.encode()) + reader.end()
    assert [] == points
    return reader.summary


@pytest.mark.feature("ML-11")
@pytest.mark.parametrize(
    ("text", "source", "kinds"),
    [
        (KERAS_3, "keras", ["Conv2D", "Flatten", "Dense"]),
        (KERAS_2, "keras", ["Conv2D", "Flatten", "Dense"]),
        (TORCHINFO, "torchinfo", ["Sequential", "Conv2d", "ReLU", "Linear"]),
        (TORCHSUMMARY, "torchsummary", ["Conv2d", "Linear"]),
    ],
)
def test_totals_match(text, source, kinds):
    summary = summary_of(text)
    assert source == summary["source"]
    assert CONV + LINEAR == summary["parameters"]
    assert kinds == [layer["kind"] for layer in summary["layers"]]
    counts = [layer["parameters"] for layer in summary["layers"] if layer["parameters"]]
    assert [CONV, LINEAR] == counts
    first = next(layer for layer in summary["layers"] if layer["kind"].startswith("Conv"))
    assert {26, 32} <= set(first["output"])


def test_trainable_share_costs_and_memory_are_those_told():
    assert LINEAR == summary_of(KERAS_3)["trainable"]
    told = summary_of(TORCHINFO)
    # torchinfo counts the batch of two that it was shown; this is for one image.
    assert ("Net", 405_000) == (told["network"], told["macs"])
    assert {"parameters": 870_000, "activations": 85_000} == told["memory"]


def test_two_tables_in_one_output_the_later_counts():
    assert "torchinfo" == summary_of(KERAS_2 + TORCHINFO)["source"]


def test_a_table_cut_off_before_its_sums_is_none():
    assert None is summary_of(KERAS_2[: KERAS_2.index("Total")])


def test_the_record_is_read_as_written_and_damage_is_told(tmp_path):
    assert None is read_summary(tmp_path)
    write_summary(tmp_path, summary_of(TORCHINFO))
    record = read_summary(tmp_path)
    assert ("discern.model_summary", 1) == (record["format"], record["version"])
    assert "216,650 parameters, all trained, 0.000 GMACs an image, 4 layers" == summary_line(record)
    (tmp_path / "model_summary.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_summary(tmp_path)
