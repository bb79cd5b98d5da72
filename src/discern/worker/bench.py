"""The verb behind `discern bench infer`: speed and memory of a network on this machine."""

from __future__ import annotations

from typing import Any

from torch import nn

from discern.base.console import Console
from discern.compute.device import DeviceChoice, choose_device
from discern.config.request import Request
from discern.models.catalogue import ModelRequest, build_model, is_network, resolve_name
from discern.models.known_facts import InferenceSpeed, save_speeds
from discern.models.listing import model_facts
from discern.worker.open_model import open_model
from discern.worker.request_values import open_request, pair_value, set_threads
from discern.workflows.inference_speed import SpeedTest, measure_speed


def infer_verb(request: Request, console: Console) -> int:
    """Measure one model at each batch size and precision; keep a named network's figures."""
    given = request.arguments
    set_threads(request)
    device = choose_device(pair_value(request, "compute.device", "auto"))
    console.say(f"device   {device}")
    model, test, named = _subject(request, device)
    model = model.to(device.torch_device)
    speeds: list[InferenceSpeed] = []
    for precision in given["precisions"]:
        for size in given["batch_sizes"]:
            one = SpeedTest(**{**test, "precision": precision})
            speeds.append(measure_speed(model, one, size))
            console.say(_line(speeds[-1]))
    if named:
        save_speeds(speeds)
    console.emit({"results": [speed.record() for speed in speeds]})
    return 0


def _subject(request: Request, device: DeviceChoice) -> tuple[nn.Module, dict[str, Any], bool]:
    """(model, what to measure, whether it is a network by name): weights do not change a speed."""
    name = request.arguments["model"]
    size = pair_value(request, "data.image_size")
    named = is_network(name)
    if not named:
        opened = open_model(open_request(request))
        expected, model = opened.preprocess, opened.model
    else:
        name = resolve_name(name)
        facts = model_facts(name, image_size=None if size is None else (size, size))
        built = build_model(
            ModelRequest(
                name=name,
                num_classes=facts.classes,
                channels=facts.input.channels,
                image_size=(facts.input.height, facts.input.width),
                weights="none",
            )
        )
        expected, model = built.preprocess, built.model
    return (
        model,
        {
            "network": name,
            "channels": expected.channels,
            "height": expected.height,
            "width": expected.width,
            "device": device,
        },
        named,
    )


def _line(speed: InferenceSpeed) -> str:
    return (
        f"batch {speed.batch_size:<4} {speed.precision}  {speed.images_per_s:9.1f} img/s  "
        f"p50 {speed.p50_ms:.2f}  p90 {speed.p90_ms:.2f}  p99 {speed.p99_ms:.2f} ms  "
        f"peak {speed.peak_mb:.0f} MB"
    )
