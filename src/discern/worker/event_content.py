"""What a run's event files hold besides figures: the config, the network, images, the end.

They are for people who look with TensorBoard. What cannot be drawn is a note in the log and ends
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import DiscernError
from discern.config.yaml_text import dump_text
from discern.data.head_spec import HeadSpec, main_heads
from discern.feed.preview import preview_images
from discern.models.classifier import Classifier
from discern.models.forward_trace import trace_forward
from discern.track.projector_files import CONFIG_FILE, write_projector
from discern.track.run import RunWriter
from discern.track.run_folder import EVENTS
from discern.training.evaluate import Table
from discern.training.material import Material
from discern.training.scores import EvalTable
from discern.worker.plan import TrainingPlan
from discern.worker.report_content import add_confusion_images, thumbnails
from discern.worker.resume import stored_config
from discern.workflows.preview_picture import numbered_picture, preview_picture

WORST: Final = 16
_LEFT_OUT: Final = ("tracking", "version")


def add_start_events(
    plan: TrainingPlan, model: Classifier, material: Material, writer: RunWriter, step: int
) -> None:
    """Before the first update of an attempt, at `step`: config, hyper-parameters, graph, inputs."""
    events = writer.events
    if events is None:
        return
    config = stored_config(plan, material.preprocess)
    events.add_text("config", f"```yaml\n{dump_text(config)}\n```", step)
    reported = plan.scanned.reported
    metrics = [(reported, "final_accuracy"), (reported, "final_loss")]
    metrics += [("val", "accuracy"), ("val", "loss"), ("train", "loss")]
    events.add_hparams(settings_of(config), metrics)
    _noted(writer, "graph", lambda: _add_graph(model, material, writer))
    _noted(writer, "input images", lambda: _add_inputs(plan, material, writer, step))


def add_end_events(
    plan: TrainingPlan,
    material: Material,
    tables: Mapping[str, Table],
    writer: RunWriter,
    metrics: Mapping[str, Any],
    step: int,
) -> None:
    """After the final scores of the reported split: these, confusion, worst images, embeddings."""
    events = writer.events
    if events is None:
        return
    for name in ("accuracy", "loss"):
        events.add_scalar(f"final_{name}", metrics[name], step, metrics["split"])
    add_confusion_images(writer, tables, material.heads, step)
    heads = main_heads(material.heads)
    for head in heads:
        tag = "worst" if len(heads) == 1 else f"worst/{head.name}"
        table = tables[head.name]
        _noted(writer, "worst predictions", partial(_add_worst, tag, table, material, writer, step))
    _noted(writer, "projector", lambda: _add_projector(plan, material, tables, writer))
    events.add_text("files", _files_text(writer), step)
    events.add_end(succeeded=True)


def settings_of(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The settings that runs are compared by: every number, text or truth value, by dotted key."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{before}{key}"
        if name in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            found |= settings_of(value, f"{name}.")
        elif isinstance(value, (bool, int, float, str)):
            found[name] = value
        elif value:
            found[name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def _noted(writer: RunWriter, what: str, action: Callable[[], None]) -> None:
    """Do `action`; what it raises is a note: nobody's training ends for want of a picture."""
    try:
        action()
    # A network of one's own may raise anything when it is traced.
    except Exception as error:  # noqa: BLE001
        why = error.what if isinstance(error, DiscernError) else str(error)
        writer.log(f"note: the event files have no {what}: {type(error).__name__}: {why}")


def _add_graph(model: Classifier, material: Material, writer: RunWriter) -> None:
    if writer.events is None:
        return
    look = next(model.parameters())
    size = (1, material.preprocess.channels, material.preprocess.height, material.preprocess.width)
    images = torch.zeros(size, device=look.device, dtype=look.dtype)
    writer.events.add_graph(trace_forward(model.network, images))


def _add_inputs(plan: TrainingPlan, material: Material, writer: RunWriter, step: int) -> None:
    """The first epoch's images of the first stage that trains, as trained on and as scored."""
    if writer.events is None:
        return
    name, stage = next(iter(plan.config.training_stages.items()))
    index = list(plan.config.stages).index(name)
    shown = preview_images(
        material.source,
        material.positions("train"),
        material.preprocess,
        material.augmentation(stage.augment.name, stage.augment.args),
        seed=material.settings.seed + index,
    )
    rows = {"augmented": shown.augmented, "as scored": shown.evaluation}
    for caption, pixels in rows.items():
        tag = f"inputs/{caption.replace(' ', '_')}"
        writer.events.add_image(tag, preview_picture({f"{name}: {caption}": pixels}), step)


def _add_worst(tag: str, table: Table, material: Material, writer: RunWriter, step: int) -> None:
    """The labeled images with the highest losses: a picture, and a table of the same numbers."""
    rows = np.flatnonzero(table.labeled)
    rows = rows[np.argsort(-np.nan_to_num(table.losses[rows], nan=np.inf), kind="stable")][:WORST]
    if writer.events is None or not len(rows):
        return
    read = thumbnails(material.source, material.preprocess)
    pictures = [read(int(position)) for position in table.positions[rows]]
    writer.events.add_image(tag, numbered_picture(pictures), step)
    lines = ["| | image | true | predicted | loss |", "|-|-|-|-|-|"]
    for number, row in enumerate(rows.tolist(), start=1):
        true, predicted = _told(table, row)
        name = material.source.name(int(table.positions[row]))
        cells = (str(number), name, true, predicted, f"{table.losses[row]:.4f}")
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    writer.events.add_text(tag, "\n".join(lines), step)


def _told(table: Table, row: int) -> tuple[str, str]:
    """(true, predicted with its probability) of one image, in words."""
    if isinstance(table, EvalTable):
        top = int(table.top_classes[row, 0])
        sure = f"{table.classes[top]} {table.top_probabilities[row, 0]:.3f}"
        return table.classes[int(table.targets[row])], sure
    names = np.array(table.classes, dtype=object)
    return ", ".join(names[table.targets[row] >= 0.5]), ", ".join(names[table.named[row]])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _add_projector(
    plan: TrainingPlan, material: Material, tables: Mapping[str, Table], writer: RunWriter
) -> None:
    most, head = plan.config.tracking.projector, material.heads[0]
    table = tables[head.name]
    if not most or not isinstance(table, EvalTable) or table.features is None:
        return
    rows = np.unique(np.linspace(0, len(table) - 1, min(most, len(table))).astype(int))
    names = [
        (material.source.name(int(table.positions[row])), *_labels(table, head, row))
        for row in rows.tolist()
    ]
    vectors: NDArray[np.float32] = table.features[rows]
    write_projector(writer.path / EVENTS, vectors, ("image", "true", "predicted"), names)


def _labels(table: EvalTable, head: HeadSpec, row: int) -> Sequence[str]:
    true = int(table.targets[row])
    return ("" if true < 0 else head.classes[true], head.classes[int(table.predicted[row])])


def _files_text(writer: RunWriter) -> str:
    """What else there is to look at, by paths from the run's folder."""
    wanted = ("report/index.html", "config.yaml", f"{EVENTS}/{CONFIG_FILE}", "profile/*.json")
    found = [path for pattern in wanted for path in sorted(writer.path.glob(pattern))]
    return "\n".join(f"- `{path.relative_to(writer.path)}`" for path in found)
