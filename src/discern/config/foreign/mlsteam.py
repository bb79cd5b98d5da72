"""MLSteam's `mlsteam.yml`: the six parameters of its classification template.

A parameter with several values stands for several jobs: one config for each combination.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

from discern.config.foreign.reading import Part, Reading

_STAGE: Final = "stages.*"
_AUGMENTS: Final = {
    "none": "none",
    "color_distortion": "color_distortion",
    "color_distort": "color_distortion",
    "flip_random": "flip_random",
    "both": "both",
}
_PLATFORM: Final = {
    "command": "the program of the template; `discern train` takes its place",
    "params_definition": "a form's choices",
    "param_definition": "a form's choices",
    "description": "a text",
    "env": "an image of the platform",
    "image": "an image of the platform",
    "gpu": "say --device",
    "hashtag": "a text",
    "input": "say DATA",
}


def combinations(config: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(what differs, the config with one value a parameter) of each job, in the lists' order."""
    given = config.get("params")
    params = dict(given) if isinstance(given, Mapping) else {}
    choices = {
        name: value if isinstance(value, list) else [value] for name, value in params.items()
    }
    varied = [name for name, values in choices.items() if len(values) > 1]
    jobs = []
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        label = ", ".join(f"{name}={chosen[name]}" for name in varied)
        jobs.append((label, {**config, "params": chosen} if params else dict(config)))
    return jobs


def read_mlsteam(config: Mapping[str, Any], reading: Reading) -> None:
    """Read one job into `reading`. What is not given stays with the recipe of data and network."""
    top = Part(reading, [("", config)])
    top.put("name", "tracking.name")
    for name, why in _PLATFORM.items():
        top.leave(name, why)
    params = top.part("params", "of the template")
    augment = str(params.value.get("aug_list"))
    if augment in _AUGMENTS:
        params.put("aug_list", f"{_STAGE}.augment", _AUGMENTS[augment])
    else:
        params.refuse("aug_list", f"one of {', '.join(_AUGMENTS)} is known")
    for name in ("num_epochs", "num_epoch"):
        params.put(name, f"{_STAGE}.epochs")
    _read_batch(params)
    _read_memory(params)
    params.put("network", "model.name")
    params.close()
    top.close()


def _read_batch(params: Part) -> None:
    """small_chunk forward passes of batch_size images are one update of both multiplied."""
    size, chunk = params.value.get("batch_size"), params.value.get("small_chunk", 1)
    if not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 1:
        params.refuse("small_chunk", "a number of forward passes from 1 on")
        chunk = 1
    if isinstance(size, int) and chunk > 1:
        why = f"batch_size x small_chunk = {size} x {chunk} images an update"
        params.put("batch_size", f"{_STAGE}.batch_size", size * chunk, why)
        params.put("small_chunk", f"{_STAGE}.grad_accum_steps")
        return
    params.put("batch_size", f"{_STAGE}.batch_size")
    if chunk > 1:
        params.refuse("small_chunk", "the batch size is needed: give batch_size")
    else:
        params.leave("small_chunk", "one forward pass an update")


def _read_memory(params: Part) -> None:
    method = params.value.get("memory_saving_method")
    if method == "recomputing":
        params.put("memory_saving_method", "compute.grad_checkpointing", written=True)
    elif method in ("none", None):
        params.leave("memory_saving_method", "none")
    else:
        params.refuse("memory_saving_method", "none or recomputing")
