"""What TensorBoard finds in a training's event files: each kind is read back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from discern_process import QUICK, discern
from PIL import Image

from discern.track.run import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One training with all that event files may hold."""
    runs = tmp_path_factory.mktemp("events")
    ended = discern(
        "train", "digits", *QUICK, "--histograms", "10", "--profile", "2-3", "--mixup", "0",
        "--set", "tracking.projector=50", "--runs", runs, "--name", "one",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    return read_run(runs / "digits" / "one")


def read_back(run, group=""):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}
    events = EventAccumulator(str(run.path / "events" / group), size_guidance=sizes)
    events.Reload()
    return events


def text_of(events, tag):
    (event,) = events.Tensors(tag)
    return event.tensor_proto.string_val[0].decode()


@pytest.mark.feature("CA-43")
def test_each_split_has_its_scalars_and_the_reported_one_the_final_score(run):
    metrics = run.record["metrics"]
    val = read_back(run, "val")
    assert {"accuracy", "loss"} <= set(val.Tags()["scalars"])
    (final,) = read_back(run, metrics["split"]).Scalars("final_accuracy")
    assert metrics["accuracy"] == pytest.approx(final.value)
    assert run.record["best"]["step"] == final.step
    assert "loss" in read_back(run, "train").Tags()["scalars"]


def test_hyper_parameters_make_runs_comparable(run):
    from tensorboard.plugins.hparams import metadata

    found = read_back(run).summary_metadata
    start, end, experiment = (
        metadata.parse_session_start_info_plugin_data(
            found["_hparams_/session_start_info"].plugin_data.content
        ),
        metadata.parse_session_end_info_plugin_data(
            found["_hparams_/session_end_info"].plugin_data.content
        ),
        metadata.parse_experiment_plugin_data(found["_hparams_/experiment"].plugin_data.content),
    )
    assert "mlp" == start.hparams["model.name"].string_value
    assert 1.0 == start.hparams["stages.train.epochs"].number_value
    assert not [name for name in start.hparams if name.startswith("tracking")]
    assert 1 == end.status  # success
    split = run.record["metrics"]["split"]
    scored = {(info.name.group, info.name.tag) for info in experiment.metric_infos}
    assert {(split, "final_accuracy"), ("val", "accuracy"), ("train", "loss")} <= scored


def test_graph_leads_from_input_to_output(run):
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    events = read_back(run)
    assert events.Tags()["graph"]
    graph = events.Graph()
    assert isinstance(graph, GraphDef)
    nodes = {node.name: node for node in graph.node}
    place, seen = "output", []
    while place != "input":
        seen.append(nodes[place].op)
        (place,) = nodes[place].input
    assert seen.count("linear") == sum(node.op == "linear" for node in graph.node) >= 2
    sizes = [dim.size for dim in nodes["output"].attr["_output_shapes"].list.shape[0].dim]
    assert [1, 10] == sizes


def test_histograms_are_of_every_parameter_and_gradient_at_the_steps_asked_for(run):
    from safetensors.numpy import load_file

    events = read_back(run)
    tags = set(events.Tags()["histograms"])
    weights = load_file(run.path / "model" / "model.safetensors")
    parts = {tag.partition("/")[0] for tag in tags}
    assert {"parameters", "gradients"} == parts
    assert 2 * len(weights) == len(tags)
    last = run.record["best"]["step"]
    for tag in tags:
        found = events.Histograms(tag)
        assert list(range(10, last + 1, 10)) == [event.step for event in found]
        name = tag.partition("/")[2].removeprefix("network.")
        value = found[0].histogram_value
        assert weights[name].size == value.num == sum(value.bucket)
        assert value.min < value.max


def test_input_images_are_shown_as_trained_on_and_as_scored(run):
    events = read_back(run)
    pictures = {}
    for tag in ("inputs/augmented", "inputs/as_scored"):
        (event,) = events.Images(tag)
        pictures[tag] = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    first, second = pictures.values()
    assert first.shape == second.shape
    assert (first[24:] != second[24:]).any()  # below the captions


def test_worst_predictions_are_those_of_the_highest_losses(run):
    import csv

    with open(run.path / "report" / "predictions.csv", newline="") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: -float(row["loss"]))
    events = read_back(run)
    lines = text_of(events, "worst").splitlines()[2:]
    assert 16 == len(lines)
    shown = [line.split(" | ") for line in lines]
    assert rows[0]["image"] == shown[0][1]
    assert float(rows[0]["loss"]) == pytest.approx(float(shown[0][4].rstrip(" |")), abs=1e-4)
    assert [row["true"] for row in rows[:16]] == [cells[2] for cells in shown]
    (picture,) = events.Images("worst")
    assert picture.width > picture.height > 0 or picture.height >= picture.width


def test_config_is_there_as_text(run):
    text = text_of(read_back(run), "config")
    assert "name: mlp" in text
    assert text.startswith("```yaml\n")


def test_projector_files_hold_the_embeddings_of_scored_images(run):
    folder = run.path / "events"
    config = (folder / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "projector/embeddings.bytes"' in config
    sizes = [int(line.split()[1]) for line in config.splitlines() if "tensor_shape" in line]
    vectors = np.fromfile(folder / "projector" / "embeddings.bytes", "<f4")
    assert (50, sizes[0] * sizes[1]) == (sizes[0], vectors.size)
    assert np.isfinite(vectors).all()
    rows = (folder / "projector" / "embeddings.tsv").read_text().splitlines()
    assert "image\ttrue\tpredicted" == rows[0]
    assert 51 == len(rows)


def test_other_files_are_named(run):
    text = text_of(read_back(run), "files")
    (trace,) = (run.path / "profile").glob("*.json")
    assert {f"- `profile/{trace.name}`", "- `report/index.html`", "- `config.yaml`",
            "- `events/projector_config.pbtxt`"} == set(text.splitlines())  # fmt: skip


_REFUSING = """
import torch
from torch import nn


class Refusing(nn.Module):
    def __init__(self, classes, size):
        super().__init__()
        self.head = nn.Linear(size, classes)

    def forward(self, images):
        if torch._C._len_torch_function_stack():
            raise RuntimeError("draw me not")
        return self.head(images.flatten(1))


def build(num_classes, channels, image_size):
    height, width = image_size if isinstance(image_size, (tuple, list)) else (image_size,) * 2
    return Refusing(num_classes, channels * height * width)
"""


def test_a_network_that_cannot_be_traced_is_a_note(tmp_path):
    (tmp_path / "net.py").write_text(_REFUSING)
    ended = discern(
        "train", "digits", *QUICK[2:], "--model", "./net.py:build", "--runs", "runs",
        "--name", "one", cwd=tmp_path,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    run = read_run(tmp_path / "runs" / "digits" / "one")
    note = "note: the event files have no graph: RuntimeError: draw me not"
    assert note in (run.path / "log.txt").read_text()
    assert not read_back(run).Tags()["graph"]
    assert [] == run.record["problems"]
