"""The verb behind `discern bench train`: images a second of training, on synthetic images."""

from __future__ import annotations

from typing import Any

from discern.base.console import Console
from discern.compute.device import choose_device
from discern.config.request import Request
from discern.models.catalogue import resolve_name
from discern.worker.request_values import pair_value, set_threads
from discern.workflows.training_speed import TrainingTest, form_parts, measure_training


def train_verb(request: Request, console: Console) -> int:
    """Measure one network in each form."""
    given: dict[str, Any] = request.arguments
    set_threads(request)
    for form in given["forms"]:
        form_parts(form)
    device = choose_device(pair_value(request, "compute.device", "auto"))
    side = pair_value(request, "data.image_size", 224)
    test = TrainingTest(
        network=resolve_name(given["model"]),
        batch_size=given["batch_size"],
        side=side,
        num_classes=given["classes"],
        steps=given["steps"],
        rounds=given["rounds"],
    )
    console.say(f"device   {device}")
    console.say(f"training {test.network} at {side}, batch {test.batch_size}, synthetic images")
    results = []
    for form in given["forms"]:
        speed = measure_training(test, form, device.torch_device)
        results.append({"model": test.network, "batch_size": test.batch_size, **speed.record()})
        gain = speed.images_per_s / results[0]["images_per_s"]
        console.say(
            f"{form:<28} {speed.images_per_s:9.1f} img/s ({speed.lowest:.1f} to "
            f"{speed.highest:.1f})  {gain:.2f}x  first step {speed.first_step_s:.1f} s  "
            f"peak {speed.peak_mb:.0f} MB"
        )
    console.emit({"results": results})
    return 0
