"""Catalyst's data_params: tables, folds, label columns, batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from discern.config.foreign.catalyst_names import Facts
from discern.config.foreign.reading import Part

_SAMPLERS = {"upsampling": "up", "downsampling": "down"}


def read_data(data: Part, stage: str, facts: Facts) -> None:
    """The data of one training stage; what is the same for the whole run is said once."""
    data.put("batch_size", f"stages.{stage}.batch_size")
    data.put("mini_epoch_len", f"stages.{stage}.epoch_size")
    if data.value.get("per_gpu_scaling"):
        data.leave("per_gpu_scaling", "batch_size is over all devices; with N of them give N times")
    data.leave("per_gpu_scaling", "batch_size is over all devices")
    balance = str(data.value.get("balance_strategy"))
    if balance in _SAMPLERS or balance.isdigit():
        data.put("balance_strategy", f"stages.{stage}.sampler", _SAMPLERS.get(balance, balance))
    data.put("num_workers", "data.workers")
    data.put("workers", "data.workers")
    size = data.value.get("image_size")
    data.put("image_size", "data.image_size", list(size) if isinstance(size, list) else size)
    _read_tables(data, facts)
    _read_labels(data)
    data.leave("one_hot_classes", "objectives make what they need of the labels")
    data.leave("num_classes", "counted from the labels")
    if not data.value.get("drop_last"):
        data.leave("drop_last", "every image is used")
    data.close()


def _read_tables(data: Part, facts: Facts) -> None:
    if data.value.get("in_csv_train") is not None:
        data.put("in_csv_train", "data.source")
        data.leave("in_csv", "in_csv_train is given")
    data.put("in_csv", "data.source")
    data.put("in_csv_valid", "data.val")
    facts.infer_table = data.value.get("in_csv_infer")
    same = facts.infer_table in (data.value.get("in_csv_train"), data.value.get("in_csv_valid"))
    if facts.infer_table is None or same:
        facts.infer_table = None
        data.leave("in_csv_infer", "predict stages write every split")
    data.leave("in_csv_infer", "the images of predict stages, as their source")
    data.put("datapath", "data.root")
    data.put("datapath_train", "data.root")
    for ours, theirs in (("train", "train"), ("val", "valid"), ("test", "infer")):
        data.put(
            f"{theirs}_folds", f"data.{ours}_folds", _numbers(data.value.get(f"{theirs}_folds"))
        )
    data.put("n_folds", "data.n_folds")
    data.put("folds_seed", "data.folds_seed")


def _numbers(value: Any) -> Any:
    """Folds as a list, also from Catalyst's `0,1,2,3`."""
    if isinstance(value, str):
        return [int(part) for part in value.split(",") if part.strip().isdigit()]
    return [value] if isinstance(value, int) else value


def _read_labels(data: Part) -> None:
    named = data.value.get("tag_column") is not None
    data.put("tag_column", "data.labels")
    if named:
        data.leave("class_column", "the numbers of tag_column's names")
    data.put("class_column", "data.labels")
    path = data.value.get("tag2class")
    if path is None:
        return
    names = _class_names(path)
    if names is None:
        data.refuse("tag2class", "no such file, or not {name: number, ...} from 0 on")
    elif names == sorted(names):
        data.leave("tag2class", "classes in the order of their names, as here")
    elif named:
        data.put("tag2class", "data.classes", names)
    else:
        data.refuse("tag2class", "names of numbered classes: give tag_column")


def _class_names(path: Any) -> list[str] | None:
    """The names in the order of their numbers; None for a file of another kind."""
    try:
        numbers = json.loads(Path(str(path)).read_bytes())
        ordered = sorted(numbers, key=numbers.__getitem__)
        return ordered if [numbers[name] for name in ordered] == list(range(len(ordered))) else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
