"""Figures on printed lines: MLSteam's grammar and the lines of the usual trainers."""

from __future__ import annotations

import math

import pytest

from discern.track.printed.axes import MOST_SERIES, SeriesAxes
from discern.track.printed.metrics import MetricReader
from discern.track.printed.output import OutputReader

# A line for each group and axis; the first and the eleventh are those of MLSteam's guide.
SAMPLES = """\
Train step=10 loss=0.818 acc=0.95
Train iter=20 lr=1e-3
Train epoch=1 mvp=7
Training Step=100 loss=2.5 accuracy=0.125 learning_rate=0.01
Training Iter=3 avg=.5
Training Epoch=2 acc=+0.5
Test step=5 loss=-1.5
Test Iter=6 acc_top5=1
Test Epoch=7 top-1=99.5
Validation step=10 loss=nan
Validation epoch=1.66 loss=0.818 acc_top5=0.95 acc_top1=0.8
Validation Iter=40 f1=1E+2
"""
EXPECTED = [
    ("Train_loss", 10, 0.818),
    ("Train_acc", 10, 0.95),
    ("Train_lr", 20, 1e-3),
    ("Train_mvp", 1, 7.0),
    ("Training_loss", 100, 2.5),
    ("Training_accuracy", 100, 0.125),
    ("Training_learning_rate", 100, 0.01),
    ("Training_avg", 3, 0.5),
    ("Training_acc", 2, 0.5),
    ("Test_loss", 5, -1.5),
    ("Test_acc_top5", 6, 1.0),
    ("Test_top-1", 7, 99.5),
    ("Validation_loss", 10, math.nan),
    # 1.66 epochs are no whole step: counted, with the places as a series.
    ("Validation_epoch", 0, 1.66),
    ("Validation_loss (count)", 0, 0.818),
    ("Validation_acc_top5", 0, 0.95),
    ("Validation_acc_top1", 0, 0.8),
    ("Validation_f1", 40, 100.0),
]


def read(*lines):
    reader = MetricReader(SeriesAxes())
    return [tuple(point) for line in lines for point in reader.read(line)]


@pytest.mark.feature("ML-10")
def test_the_twelve_sample_lines_give_exactly_their_series():
    lines = SAMPLES.splitlines()
    assert 12 == len(lines)
    assert str(EXPECTED) == str(read(*lines))  # as text: nan is not equal to itself


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["step: 200, loss: 0.31"], [("loss", 200, 0.31)]),
        (["INFO:tensorflow:loss = 0.25, step = 100 (0.5 sec)"], [("loss", 100, 0.25)]),
        (['{"step": 10, "loss": 0.5}'], [("loss", 10, 0.5)]),
        (["[100/1000] loss: 0.5"], [("loss", 100, 0.5)]),
        (["epoch 3 | loss=0.3 | val_acc=0.9"], [("loss", 3, 0.3), ("val_acc", 3, 0.9)]),
        (["loss=tensor(0.5)", "loss=0.4"], [("loss", 0, 0.5), ("loss", 1, 0.4)]),
        (
            ["{'loss': 0.5, 'epoch': 0.35}"],
            [("loss", 0, 0.5), ("epoch", 0, 0.35)],
        ),
        # Keras: means over a part of an epoch do not count.
        (
            [
                "Epoch 1/2",
                "  1/938 ━━━━━ 5:00 300ms/step - accuracy: 0.1 - loss: 2.3",
                "938/938 ━━━━━ 5s 5ms/step - accuracy: 0.9 - loss: 0.3 - val_loss: 0.2",
                "Epoch 2/2",
                "60000/60000 [=====] - 2s 81us/sample - loss: 0.1",
            ],
            [("accuracy", 1, 0.9), ("loss", 1, 0.3), ("val_loss", 1, 0.2), ("loss", 2, 0.1)],
        ),
        # Lightning's bar, and the same drawn again.
        (
            [
                "Epoch 0: 100%|███| 938/938 [00:10<00:00, 93.1it/s, v_num=0, loss_step=0.100]",
                "Epoch 0: 100%|███| 938/938 [00:11<00:00, 93.1it/s, v_num=0, loss_step=0.100]",
                "Epoch 1:   1%|   | 10/938 [00:10<00:00, 93.1it/s, v_num=0, loss_step=0.090]",
            ],
            [("loss_step", 938, 0.1), ("loss_step", 948, 0.09)],
        ),
        (["Epoch 0/9 ━━━━ 938/938 0:00:10 • 0:00:00 v_num: 0.000 loss: 0.2"], [("loss", 938, 0.2)]),
        # A bar without an epoch that begins anew.
        (
            ["100%|██| 100/100 [00:01<00:02, 30it/s, loss=0.3]", " 10%|█ | 10/100 [loss=0.2]"],
            [("loss", 100, 0.3), ("loss", 110, 0.2)],
        ),
        # timm: now (mean); of evaluations the mean over all of them.
        (
            [
                "Train: 1 [  50/100 ( 50%)]  Loss: 6.91 (6.93)  Time: 0.392s,  653.06/s  LR: 1e-05",
                "Test: [   0/48]  Loss:  0.9 ( 1.0)  Acc@1:  75.0 ( 78.1)",
                "Test: [  48/48]  Loss:  0.8 ( 0.7)  Acc@1:  75.0 ( 80.5)",
            ],
            [
                ("Train_Loss", 50, 6.91),
                ("Train_LR", 50, 1e-5),
                ("Test_Loss", 1, 0.7),
                ("Test_Acc@1", 1, 80.5),
            ],
        ),
        # PyTorch's examples.
        (
            [
                "Train Epoch: 2 [640/60000 (1%)]\tLoss: 1.500000",
                "Test set: Average loss: 0.0489, Accuracy: 9840/10000 (98%)",
            ],
            [("Train_Loss", 60640, 1.5), ("Test_loss", 2, 0.0489), ("Test_Accuracy", 2, 0.984)],
        ),
        (
            ["Epoch: [0][  10/500]\tTime  0.5 ( 1.2)\tLoss 6.9e+00 (7.0e+00)", " * Acc@1 75.1"],
            [("Time", 10, 0.5), ("Loss", 10, 6.9), ("Acc@1", 0, 75.1)],
        ),
    ],
)
def test_lines_of_the_usual_trainers(lines, expected):
    assert expected == read(*lines)


@pytest.mark.parametrize(
    "line",
    [
        "2024-01-01 12:00:00,123 INFO listening on localhost:6006 with version=1.2.3",
        "http://host:80/page?loss=3",
        "train_loss.py:12: UserWarning: something",
        "time: 0.392s, date: 2024-01-01, at 10:30",
        "Downloading 40%|███| 40/100 [00:01<00:02, 30MB/s]",
        "batch_size=32 workers=4",
        "Train step=ten loss=0.5x",
        "accuracy: 0/0",
        "",
    ],
)
def test_what_is_no_figure_gives_none(line):
    assert [] == read(line)


def test_series_never_mix_axes():
    points = read("epoch 1 loss=0.5", "step=7 loss=0.4", "epoch 2 loss=0.3")
    assert [("loss", 1, 0.5), ("loss (step)", 7, 0.4), ("loss", 2, 0.3)] == points


def test_a_figure_before_the_first_epoch_is_not_how_it_ended():
    axes = SeriesAxes()
    axes.place("loss", "count", 0, 2.3)
    axes.place("loss", "epoch", 1, 0.5)
    axes.place("acc", "step", 10, 0.5)
    axes.place("acc", "epoch", 1, 0.75)
    assert {"loss": 0.5, "loss (epoch)": 0.5, "acc": 0.5, "acc (epoch)": 0.75} == axes.last_values()


def test_names_without_end_are_left_out_and_counted():
    axes = SeriesAxes()
    reader = MetricReader(axes)
    points = [p for n in range(MOST_SERIES + 5) for p in reader.read(f"step=1 loss{n}=1")]
    assert MOST_SERIES == len(points)
    assert 5 == axes.left_out


def test_lines_of_binary_data_hold_no_figures():
    reader = OutputReader(SeriesAxes())
    assert [] == reader.feed(b"\x00\x01 step=1 loss=0.5\n")
    assert [("loss", 2, 0.25)] == [tuple(p) for p in reader.feed(b"step=2 loss=0.25\n")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_bars_colors_torn_lines_and_garbage_in_pieces_of_any_size(size):
    data = (
        b"\x1b[1mTrain step=1 loss=0.5\x1b[0m\r\n"
        + b"\x00\xff\xfe" * 100_000  # no end for 300 kB
        + b"\n\x1b[2K\r 50%|#| 5/10 [00:01, acc=0.25]\r100%|#| 10/10 [00:02, acc=0.5]\n"
        + "Train step=2 größe=3\n".encode()
        + b"Train step=3 loss=0.125"  # no end
    )
    reader = OutputReader(SeriesAxes())
    points = []
    for start in range(0, len(data), size):
        points += reader.feed(data[start : start + size])
    points += reader.end()
    assert [
        ("Train_loss", 1, 0.5),
        ("acc", 5, 0.25),
        ("acc", 10, 0.5),
        ("Train_größe", 2, 3.0),
        ("Train_loss", 3, 0.125),
    ] == [tuple(point) for point in points]
