"""The report's one page: works offline, holds its pictures, runs no script, escapes every text."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from discern.base.errors import DiscernError
from discern.base.page_frame import page_section, whole_page
from discern.training.scores import (
    KEPT_CLASSES,
    Calibration,
    EvalTable,
    calibration,
    confusion_matrix,
    most_confused_pairs,
    per_class,
)
from discern.workflows.page_parts import percent
from discern.workflows.part_sections import PART_STYLE, leak_words, part_sections
from discern.workflows.report_charts import calibration_svg, confusion_svg, curves_html

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from discern.data.images import Pixels
    from discern.workflows.report import ReportContent

_WORST = 24
_THUMBNAIL = 96
# Beyond this many classes the table shows the weakest first, the rest folded away.
_OPEN_ROWS = 30
_WEAKEST = 15
# Beyond this many classes a matrix cannot be read; the pairs are listed instead.
_MATRIX = 100
_BINS = 10
# Nothing may be fetched and nothing run, whatever a class name or path holds.
_PANELS = (
    ("Loss", {"train/loss": "train", "val/loss": "val"}),
    ("Accuracy", {"train/accuracy": "train", "val/accuracy": "val"}),
    ("Learning rate", {"train/lr": "rate"}),
)


def render_page(content: ReportContent) -> str:
    """The page as HTML text."""
    many = len(content.table.classes) > _MATRIX
    pairs = page_section("Most confused", _pairs(content, 20 if many else 8), half=not many)
    sections = [
        _headline(content),
        pairs,
        page_section("How sure it is", _sureness(content), half=not many),
        *part_sections(content.parts, content.table),
        page_section("Worst mistakes", _mistakes(content), "Wrong answers with the highest loss."),
        page_section("Classes", _class_table(content)),
        "" if many else page_section("Confusion matrix", _matrix(content)),
        page_section("Training", _curves(content), "By step."),
        page_section("What was evaluated", facts_table(content.facts), half=bool(content.commands)),
        page_section("Next", _commands(content), half=bool(content.facts)),
        folded("Configuration", pre(content.config_text)),
        folded("Environment", facts_table(content.environment)),
    ]
    return report_page(
        content.title, sections, "report.json, per_class.csv, confusion.csv, predictions.csv"
    )


def report_page(title: str, sections: Sequence[str], files: str) -> str:
    """A page of `sections`, empty ones left out; `files` hold its figures."""
    return whole_page(title, sections, style=PART_STYLE, footer=f"All figures: {files}")


def folded(title: str, body: str) -> str:
    if not body:
        return ""
    return f"<section><details><summary>{title}</summary>{body}</details></section>"


def _headline(content: ReportContent) -> str:
    metrics, table = content.metrics, content.table
    count, split = metrics["count"], html.escape(str(metrics["split"]))
    scored = f"all {count:,} images" if split == "all" else f"{count:,} {split} images"
    accuracy, low, high = (metrics[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
    chance = int(per_class(table).support.max()) / count
    warnings = "".join(f"<p class='warn'>{html.escape(text)}</p>" for text in content.warnings)
    wrong = round(count * (1 - accuracy))
    words = (
        f"<p>of {scored} are named right, {wrong:,} are not. On new images of the "
        f"same kind, expect {percent(low, count)} to {percent(high, count)}%.<br>"
        "<span>95% Wilson interval. "
        f"Always naming the most frequent class would score {percent(chance, count)}%.</span></p>"
    )
    scale = (
        f"<div class='scale'><i style='left:{100 * low:.2f}%;"
        f"width:{max(100 * (high - low), 0.4):.2f}%'></i><u style='left:{100 * chance:.2f}%'></u>"
        f"<b style='left:{100 * accuracy:.2f}%'></b></div>"
        "<div class='ends'><span>0%</span><span>100%</span></div>"
    )
    return (
        f"<header><h1>{html.escape(content.title)}</h1>{warnings}<div class='hero'>"
        f"<div class='score'>{percent(accuracy, count)}<small>%</small></div>{words}</div>"
        f"{scale}{leak_words(content.parts.get('leak_free'))}{_tiles(content)}</header>"
    )


def _tiles(content: ReportContent) -> str:
    metrics, count = content.metrics, content.metrics["count"]
    scores = per_class(content.table)
    loss = metrics["loss"]
    tiles = [("mean loss", "not finite" if loss is None else f"{loss:.4f}")]
    if len(content.table.classes) > KEPT_CLASSES:
        tiles.insert(0, ("top-5 accuracy", f"{percent(metrics['top5'], count)}%"))
    tiles.append(("mean recall of classes", f"{percent(float(np.nanmean(scores.recall)), count)}%"))
    tiles.append(("classes", f"{len(content.table.classes):,}"))
    val = content.val_metrics
    if val is not None:
        tiles.append(("on the validation images", f"{percent(val['accuracy'], val['count'])}%"))
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles)
    return f"<div class='tiles'>{cells}</div>"


def sureness(table: EvalTable, bins: int = 15) -> Calibration | None:
    """The calibration over images whose stated probability is a number; None without any.

    A network that overflows in half precision states none for some images, and its report must
    still be written.
    """
    rows = np.flatnonzero(table.labeled & np.isfinite(table.top_probabilities[:, 0]))
    if not len(rows):
        return None
    if len(rows) < len(table):
        table = replace(
            table,
            positions=table.positions[rows],
            targets=table.targets[rows],
            top_classes=table.top_classes[rows],
            top_probabilities=table.top_probabilities[rows],
            losses=table.losses[rows],
            logits=None,
        )
    return calibration(table, bins=bins)


def _sureness(content: ReportContent) -> str:
    found = sureness(content.table, _BINS)
    if found is None:
        return "<p class='sub'>No image has a stated probability.</p>"
    points = 100 * found.bias
    if abs(points) < 1:
        verdict = "Its stated probabilities are right on average, to within one point."
    else:
        side = "too sure of itself" if points > 0 else "less sure than it could be"
        verdict = f"On average it is {abs(points):.1f} points {side}."
    return (
        "<p class='sub'>How often it is right, by the probability it states. "
        f"The dashed line is a perfect match.</p><div class='sure'>{calibration_svg(found)}"
        f"<p>{verdict} <span class='sub'>Mean gap {100 * found.error:.1f} points.</span></p></div>"
    )


def _class_table(content: ReportContent) -> str:
    scores = per_class(content.table)
    count = len(scores.classes)
    rows = [
        f"<tr><th>{html.escape(name)}</th><td class='num'>{scores.support[row]:,}</td>"
        f"{meter(scores.precision[row])}{meter(scores.recall[row])}{meter(scores.f1[row])}</tr>"
        for row, name in enumerate(scores.classes)
    ]
    if count <= _OPEN_ROWS:
        return _class_rows(rows)
    weakest = np.argsort(np.nan_to_num(scores.f1, nan=2.0), kind="stable")[:_WEAKEST]
    return (
        f"<p class='sub'>The {_WEAKEST} weakest of {count:,}, by F1.</p>"
        f"{_class_rows([rows[row] for row in weakest])}"
        f"<details><summary>All {count:,} classes</summary>{_class_rows(rows)}</details>"
    )


def _class_rows(rows: list[str]) -> str:
    return (
        "<div class='scroll'><table><thead><tr><th>class</th><th class='num'>images</th>"
        "<th class='num'>precision</th><th class='num'>recall</th><th class='num'>F1</th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def meter(value: float) -> str:
    if np.isnan(value):
        return "<td class='meter'><span><i style='--v:0%'></i>none</span></td>"
    return f"<td class='meter'><span><i style='--v:{100 * value:.1f}%'></i>{value:.3f}</span></td>"


def _pairs(content: ReportContent, limit: int) -> str:
    pairs = most_confused_pairs(content.table, limit)
    if not pairs:
        return "<p class='sub'>No image was mistaken.</p>"
    items = "".join(
        f"<li><div>{html.escape(pair.true)} <em>taken for</em> {html.escape(pair.predicted)}</div>"
        f"<span>{pair.count:,} · {100 * pair.share:.1f}%</span></li>"
        for pair in pairs
    )
    return (
        "<p class='sub'>Images, and their share of the true class.</p>"
        f"<ol class='pairs'>{items}</ol>"
    )


def _matrix(content: ReportContent) -> str:
    picture = confusion_svg(confusion_matrix(content.table), content.table.classes)
    return (
        "<p class='sub'>Rows are the true class, columns the answer."
        "<span class='legend'><i></i>right <i class='e'></i>mistaken</span></p>"
        f"<div class='scroll' tabindex='0'>{picture}</div>"
    )


def _curves(content: ReportContent) -> str:
    panels = (curves_html(content.curves, title=title, names=names) for title, names in _PANELS)
    drawn = "".join(panels)
    return f"<div class='charts'>{drawn}</div>" if drawn else ""


def _mistakes(content: ReportContent) -> str:
    table = content.table
    wrong = np.flatnonzero(table.labeled & ~table.correct)
    losses = np.nan_to_num(table.losses[wrong], nan=np.inf)
    cards = []
    for row in wrong[np.argsort(-losses, kind="stable")][:_WORST]:
        guess = html.escape(table.classes[table.top_classes[row, 0]])
        true = html.escape(table.classes[table.targets[row]])
        picture = _thumbnail(content, int(table.positions[row]))
        cards.append(
            f"<figure title='{html.escape(content.names[row])}'>{picture}<figcaption>"
            f"<b>{guess}</b> {_stated(table.top_probabilities[row, 0])}<br>"
            f"<span>is {true}</span></figcaption></figure>"
        )
    return f"<div class='gallery'>{''.join(cards)}</div>" if cards else ""


def _stated(probability: float) -> str:
    return f"{100 * probability:.0f}%" if np.isfinite(probability) else "not a number"


def _thumbnail(content: ReportContent, position: int) -> str:
    """The picture of a mistake; a report is worth having where an image is gone meanwhile."""
    if content.thumbnail is None:
        return ""
    try:
        png = thumbnail_png(content.thumbnail(position))
    except (DiscernError, OSError) as error:
        text = html.escape(error.what if isinstance(error, DiscernError) else str(error))
        return f"<div class='thumb' title='{text}'>cannot be read now</div>"
    data = base64.b64encode(png).decode()
    return f"<div class='thumb'><img alt='' src='data:image/png;base64,{data}'></div>"


def thumbnail_png(pixels: Pixels) -> bytes:
    """A small PNG of uint8 [H, W, C]; tiny images are enlarged without smoothing."""
    from PIL import Image

    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(flat))
    scale = _THUMBNAIL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    way = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    stream = io.BytesIO()
    image.resize(size, way).save(stream, format="PNG")
    return stream.getvalue()


def facts_table(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table class='facts'><tbody>{rows}</tbody></table>" if rows else ""


def _commands(content: ReportContent) -> str:
    return pre("\n".join(content.commands))


def pre(text: str) -> str:
    return f"<pre tabindex='0'>{html.escape(text)}</pre>" if text else ""
