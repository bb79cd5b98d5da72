from __future__ import annotations

import io
import shutil
import threading

import pytest
from PIL import Image

from discern.track.event_files import EventFiles
from discern.track.event_graph import GraphNode


def read_back(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(stream, "PNG")
    return stream.getvalue()


def test_tensorboard_reads_back_scalars_images_and_text(tmp_path):
    events = EventFiles(tmp_path)
    for step in range(3):
        events.add_scalar("loss", 1.0 - step / 4, step)
    events.add_image("confusion", png(5, 7), 3)
    events.add_text("note", "größe **ok**", 4)
    events.add_scalar("accuracy", 0.75, 9, group="val")
    events.close()
    found = read_back(tmp_path)
    assert [(0, 1.0), (1, 0.75), (2, 0.5)] == [(e.step, e.value) for e in found.Scalars("loss")]
    (image,) = found.Images("confusion")
    assert (3, 5, 7) == (image.step, image.width, image.height)
    assert image.encoded_image_string == png(5, 7)
    (text,) = found.Tensors("note")
    assert ["größe **ok**"] == [value.decode() for value in text.tensor_proto.string_val]
    assert found.summary_metadata["note"].plugin_data.plugin_name == "text"
    (value,) = read_back(tmp_path / "val").Scalars("accuracy")
    assert (9, 0.75) == (value.step, value.value)


def test_rewind_makes_tensorboard_forget_later_steps(tmp_path):
    first = EventFiles(tmp_path)
    for step in range(10):
        first.add_scalar("loss", step, step)
    first.close()
    second = EventFiles(tmp_path)
    second.rewind(4)
    for step in range(5, 8):
        second.add_scalar("loss", step + 0.5, step)
    second.close()
    found = [(e.step, e.value) for e in read_back(tmp_path).Scalars("loss")]
    assert found == [*((s, float(s)) for s in range(5)), (5, 5.5), (6, 6.5), (7, 7.5)]


def test_hyper_parameters_are_tagged_for_their_plugin(tmp_path):
    events = EventFiles(tmp_path)
    events.add_hparams({"lr": 0.1, "model": "lenet", "layers": [1, 2]}, [("", "accuracy")])
    events.close()
    found = read_back(tmp_path).summary_metadata
    assert {"hparams"} == {metadata.plugin_data.plugin_name for metadata in found.values()}


def test_no_event_leaves_no_file(tmp_path):
    events = EventFiles(tmp_path / "events")
    events.flush()
    events.rewind(3)
    events.close()
    assert not (tmp_path / "events").exists()


def test_events_that_cannot_be_written_are_told_not_raised(tmp_path):
    (tmp_path / "file").write_text("in the way")
    events = EventFiles(tmp_path / "file" / "events")
    events.add_scalar("loss", 1.0, 1)
    events.add_scalar("loss", 1.0, 2)
    events.close()
    assert events.problem.startswith("TensorBoard events stopped: ")


def test_a_folder_that_goes_away_is_told_without_a_thread_s_traceback(tmp_path, monkeypatch):
    printed = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    events = EventFiles(tmp_path / "events")
    events.add_scalar("loss", 1.0, 1)
    events.flush()
    shutil.rmtree(tmp_path / "events")
    for step in range(2, 5):
        events.add_scalar("loss", 1.0, step)
        events.flush()
    assert "stopped" in events.problem
    others = threading.Thread(target=lambda: 1 / 0)
    others.start()
    others.join()
    assert [ZeroDivisionError] == [args.exc_type for args in printed]
    events.close()


def test_image_must_be_a_png(tmp_path):
    with pytest.raises(ValueError, match="not a PNG"):
        EventFiles(tmp_path).add_image("x", b"\xff\xd8 not a png file at all", 1)


def test_graph_is_read_back_and_no_name_is_there_twice(tmp_path):
    events = EventFiles(tmp_path)
    nodes = [GraphNode("input", "Placeholder", (), (1, 3)), GraphNode("a/b", "relu", ("input",))]
    events.add_graph(nodes)
    with pytest.raises(ValueError, match="two nodes are called 'a/b'"):
        events.add_graph([nodes[1], nodes[1]])
    events.close()
    found = read_back(tmp_path).Graph()
    assert [("input", []), ("a/b", ["input"])] == [(n.name, list(n.input)) for n in found.node]


def test_end_of_a_run_is_told_to_the_table_of_runs(tmp_path):
    from tensorboard.plugins.hparams import api_pb2, metadata

    events = EventFiles(tmp_path)
    events.add_end(succeeded=False)
    events.close()
    content = read_back(tmp_path).summary_metadata["_hparams_/session_end_info"].plugin_data.content
    end = metadata.parse_session_end_info_plugin_data(content)
    assert api_pb2.STATUS_FAILURE == end.status
