"""The report of a network with several heads, or of several labels an image.

Owns the joint page, `report.json`, `predictions.csv` and `.parquet`, and a folder `heads/NAME/` for
each head: of one label an image with a whole report of its own; of several labels with
per_label.csv, confusion.csv (each label's 2 x 2), confusion.png, report.json and a page.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from discern.base.page_frame import page_section
from discern.data.head_spec import HeadSpec, main_heads
from discern.data.images import Pixels
from discern.exporting.csv_cells import csv_cell
from discern.exporting.folders import replaced_folder
from discern.models.named_heads import layer_names
from discern.training.scores import EvalTable, confusion_matrix
from discern.training.tag_scores import TagTable, tag_confusion, tag_rows
from discern.workflows.page_parts import percent
from discern.workflows.part_sections import leak_words, part_sections
from discern.workflows.report import (
    CONFUSION,
    MARKER,
    Points,
    ReportContent,
    csv_text,
    prediction_columns,
    six_places,
    write_files,
    write_json,
    write_predictions,
)
from discern.workflows.report_charts import curves_html
from discern.workflows.report_page import (
    facts_table,
    folded,
    meter,
    pre,
    report_page,
)
from discern.workflows.report_pictures import confusion_picture, curves_picture, tags_picture

Table = EvalTable | TagTable


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsReportContent:
    """What the report is made of; as `ReportContent`, with a table and parts for each head.

    `leak_free`: the part of all heads together, as the joint scores. A table without any label is
    left out of the scores, but its predictions are listed.
    """

    title: str
    tables: Mapping[str, Table]
    heads: Sequence[HeadSpec]
    names: list[str]
    ids: list[str]
    metrics: Mapping[str, Any]
    val_metrics: Mapping[str, Any] | None = None
    curves: Mapping[str, Points] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    config_text: str = ""
    commands: tuple[str, ...] = ()
    thumbnail: Callable[[int], Pixels] | None = None
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    leak_free: Mapping[str, Any] | None = None

    def parts_of(self, head: str) -> Mapping[str, Any]:
        """What was found of one head beyond its scores."""
        return self.parts.get(head, {})

    def scored(self) -> Iterator[tuple[HeadSpec, str, Table, dict[str, Any]]]:
        """(head, folder, table, scores) of each head that has labels."""
        several = self.metrics.get("heads")
        folders = layer_names([head.name for head in self.heads])
        for head, folder in zip(self.heads, folders, strict=True):
            scores = dict(self.metrics) if several is None else several.get(head.name)
            if head.name in self.tables and scores is not None:
                yield (
                    head,
                    folder,
                    self.tables[head.name],
                    {"split": self.metrics["split"], **scores},
                )


def write_heads_report(folder: Path, content: HeadsReportContent) -> None:
    """Write the report to `folder`, replacing an older report there."""
    with replaced_folder(folder, marker=MARKER) as temporary:
        records = {}
        for head, name, table, scores in content.scored():
            own = temporary / "heads" / name
            own.mkdir(parents=True)
            records[head.name] = _write_head(own, content, head, table, scores)
        write_predictions(temporary, joint_columns(content))
        if content.curves:
            (temporary / "curves.png").write_bytes(curves_picture(content.curves))
        write_json(temporary / MARKER, _record(content, records))
        (temporary / "index.html").write_text(render_joint_page(content), encoding="utf-8")


def _write_head(
    folder: Path, content: HeadsReportContent, head: HeadSpec, table: Table, scores: dict[str, Any]
) -> dict[str, Any]:
    """Write one head's folder; gives what the joint report.json says of it."""
    title = f"{content.title}: {head.name}"
    if isinstance(table, EvalTable):
        whole = ReportContent(
            title=title,
            table=table,
            names=content.names,
            ids=content.ids,
            metrics=scores,
            warnings=content.warnings,
            thumbnail=content.thumbnail,
            parts=content.parts_of(head.name),
        )
        write_files(folder, whole)
        return {"kind": head.kind, "folder": f"heads/{folder.name}"}
    rows = tag_rows(table)
    keys = ("support", "precision", "recall", "f1", "average_precision")
    lines = [
        [csv_cell(row["class"]), *("" if row[k] is None else row[k] for k in keys)] for row in rows
    ]
    (folder / "per_label.csv").write_text(csv_text([["label", *keys], *lines]), encoding="utf-8")
    (folder / "confusion.csv").write_text(_tag_confusion_csv(table), encoding="utf-8")
    (folder / CONFUSION).write_bytes(table_picture(table))
    parts = content.parts_of(head.name)
    record = {
        "version": 1, "title": title, "metrics": scores, "parts": dict(parts), "per_label": rows,
    }  # fmt: skip
    write_json(folder / MARKER, record)
    header = f"<h1>{html.escape(title)}</h1>{_hero(scores)}{leak_words(parts.get('leak_free'))}"
    page = report_page(
        title,
        [
            f"<header>{header}</header>",
            page_section("Labels", _labels(rows), _threshold_words(scores)),
            *part_sections(parts, table),
        ],
        "report.json, per_label.csv, confusion.csv",
    )
    (folder / "index.html").write_text(page, encoding="utf-8")
    return {"kind": head.kind, "folder": f"heads/{folder.name}", "per_label": rows}


def confusion_file(report: Path, head: str) -> Path | None:
    """The picture of a head's confusion matrix in a written report; None of a head without one."""
    heads = json.loads((report / MARKER).read_text(encoding="utf-8")).get("heads")
    if heads is None:
        return report / CONFUSION
    return report / heads[head]["folder"] / CONFUSION if head in heads else None


def table_picture(table: Table) -> bytes:
    """The confusion matrix of one head as PNG, shares of the true class, with class names."""
    if isinstance(table, TagTable):
        return tags_picture(tag_confusion(table), table.classes)
    return confusion_picture(confusion_matrix(table), table.classes)


def _tag_confusion_csv(table: TagTable) -> str:
    rows: list[list[Any]] = [["label", "right no", "wrong yes", "wrong no", "right yes"]]
    for name, cells in zip(table.classes, tag_confusion(table), strict=True):
        rows.append([csv_cell(name), *cells.reshape(-1).tolist()])
    return csv_text(rows)


def _record(content: HeadsReportContent, records: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": 1,
        "title": content.title,
        "metrics": dict(content.metrics),
        "val_metrics": None if content.val_metrics is None else dict(content.val_metrics),
        "warnings": list(content.warnings),
        "facts": dict(content.facts),
        "environment": dict(content.environment),
        "leak_free": None if content.leak_free is None else dict(content.leak_free),
        "heads": dict(records),
    }


def joint_columns(content: HeadsReportContent) -> dict[str, list[Any]]:
    """Predictions of the main heads, an entry per image; columns are `HEAD.NAME` if several."""
    columns: dict[str, list[Any]] = {"image": content.names, "id": content.ids}
    main = [head for head in main_heads(content.heads) if head.name in content.tables]
    for head in main:
        table = content.tables[head.name]
        before = f"{head.name}." if len(main) > 1 else ""
        found = _head_columns(content, table)
        columns |= {f"{before}{name}": column for name, column in found.items()}
    return columns


def _head_columns(content: HeadsReportContent, table: Table) -> dict[str, list[Any]]:
    if isinstance(table, EvalTable):
        whole = ReportContent(
            title="", table=table, names=content.names, ids=content.ids, metrics={}
        )
        found = prediction_columns(whole)
        return {name: column for name, column in found.items() if name not in ("image", "id")}
    names = np.array(table.classes, dtype=object)
    yes = table.targets >= 0.5
    columns: dict[str, list[Any]] = {
        "true": [";".join(names[row]) for row in yes],
        "predicted": [";".join(names[row]) for row in table.named],
        "correct": [
            bool(right) if known else None
            for right, known in zip(table.correct, table.labeled, strict=True)
        ],
        "loss": six_places(table.losses),
    }
    for k, name in enumerate(table.classes):
        columns[f"probability.{name}"] = six_places(table.probabilities[:, k])
    return columns


def render_joint_page(content: HeadsReportContent) -> str:
    """The joint page as HTML text."""
    warnings = "".join(f"<p class='warn'>{html.escape(text)}</p>" for text in content.warnings)
    hero = _hero(content.metrics) + leak_words(content.leak_free)
    header = f"<header><h1>{html.escape(content.title)}</h1>{warnings}{hero}</header>"
    scored = list(content.scored())
    labels = [
        page_section(
            f"Labels of {html.escape(head.name)}", _labels(tag_rows(table)), _threshold_words(own)
        )
        for head, _, table, own in scored
        if isinstance(table, TagTable)
    ]
    if len(scored) == 1:  # its parts are on this page, too
        labels += part_sections(content.parts_of(scored[0][0].name), scored[0][2])
    sections = [
        header,
        page_section("Heads", _head_table(content), "Each has a page of its own."),
        *labels,
        page_section("Training", _curves(content), "By step."),
        page_section("What was evaluated", facts_table(content.facts), half=bool(content.commands)),
        page_section("Next", pre("\n".join(content.commands)), half=bool(content.facts)),
        folded("Configuration", pre(content.config_text)),
        folded("Environment", facts_table(content.environment)),
    ]
    return report_page(content.title, sections, "report.json, predictions.csv, heads/")


def _hero(metrics: Mapping[str, Any]) -> str:
    count, split = metrics["count"], html.escape(str(metrics["split"]))
    accuracy, low, high = (metrics[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
    if "heads" in metrics:
        meaning = "joint accuracy of the heads"
        bound = "The bounds are those of the heads' own 95% Wilson intervals, taken together."
    else:
        meaning, bound = "of the images have all their labels told right", "95% Wilson interval."
    words = (
        f"<p>{meaning}, {count:,} {split} images: {percent(low, count)} to "
        f"{percent(high, count)}%.<br><span>{bound}</span></p>"
    )
    score = f"<div class='score'>{percent(accuracy, count)}<small>%</small></div>"
    return f"<div class='hero'>{score}{words}</div>"


def _threshold_words(scores: Mapping[str, Any]) -> str:
    """That the labels are counted at the bundle's own thresholds, and what 0.5 would give."""
    if "macro_f1_at_half" not in scores:
        return ""
    own, half = (scores[key] for key in ("macro_f1", "macro_f1_at_half"))
    return f"At the bundle's own thresholds: mean F1 {own:.4f}, at 0.5 {half:.4f}."


def _head_table(content: HeadsReportContent) -> str:
    rows = []
    leaks = any(own.get("leak_free") for own in content.parts.values())
    for head, folder, _, scores in content.scored():
        clean = content.parts_of(head.name).get("leak_free") or {"accuracy": None}
        share = "none" if clean["accuracy"] is None else f"{clean['accuracy']:.3f}"
        last = f"<td class='num'>{share}</td>" if leaks else ""
        kind = "several labels" if head.kind == "multi" else "one label"
        kind = "side head, made labels" if head.side else kind
        bounds = f"{scores['accuracy_low']:.3f} to {scores['accuracy_high']:.3f}"
        rows.append(
            f"<tr><th><a href='heads/{folder}/index.html'>{html.escape(head.name)}</a></th>"
            f"<td>{kind}</td><td class='num'>{head.width}</td>"
            f"<td class='num'>{scores['count']:,}</td>{meter(scores['accuracy'])}"
            f"<td class='num'>{bounds}</td>{last}</tr>"
        )
    return (
        "<div class='scroll'><table><thead><tr><th>head</th><th>kind</th>"
        "<th class='num'>classes</th><th class='num'>images</th><th class='num'>accuracy</th>"
        f"<th class='num'>95% interval</th>{'<th class=num>leak-free</th>' if leaks else ''}"
        "</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _labels(rows: Sequence[Mapping[str, Any]]) -> str:
    def cell(value: float | None) -> str:
        return meter(float("nan") if value is None else value)

    lines = "".join(
        f"<tr><th>{html.escape(row['class'])}</th><td class='num'>{row['support']:,}</td>"
        + "".join(cell(row[key]) for key in ("precision", "recall", "f1", "average_precision"))
        + "</tr>"
        for row in rows
    )
    return (
        "<div class='scroll'><table><thead><tr><th>label</th><th class='num'>images</th>"
        "<th class='num'>precision</th><th class='num'>recall</th><th class='num'>F1</th>"
        f"<th class='num'>average precision</th></tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _curves(content: HeadsReportContent) -> str:
    """Loss, accuracy and rate; and each head's accuracy beside them."""
    panels = [
        ("Loss", {"train/loss": "train", "val/loss": "val"}),
        ("Accuracy", {"train/accuracy": "train", "val/accuracy": "val"}),
        ("Learning rate", {"train/lr": "rate"}),
    ]
    for head in content.heads if len(content.heads) > 1 else ():
        names = {f"{part}/{head.name}/accuracy": part for part in ("train", "val")}
        panels.append((f"Accuracy of {head.name}", names))
    drawn = "".join(curves_html(content.curves, title=t, names=names) for t, names in panels)
    return f"<div class='charts'>{drawn}</div>" if drawn else ""
