"""The report's one page: works offline, holds its pictures, escapes every text."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

import numpy as np

from discern.training.scores import most_confused_pairs, per_class
from discern.workflows.report_style import STYLE

if TYPE_CHECKING:
    from discern.data.images import Pixels
    from discern.workflows.report import ReportContent

_WORST = 24
_THUMBNAIL = 96
# Beyond this many classes the table shows the weakest only.
_ROWS = 100


def render_page(content: ReportContent, confusion: bytes, curves: bytes | None) -> str:
    """The page as HTML text."""
    sections = [
        _headline(content),
        _section("Classes", _class_table(content)),
        _section("Most confused", _pairs(content)),
        _section("Confusion matrix", _picture(confusion, "confusion matrix")),
        _section("Worst mistakes", _mistakes(content)),
    ]
    if curves is not None:
        sections.append(_section("Training", _picture(curves, "loss, accuracy and rate by step")))
    if content.facts:
        sections.append(_section("Facts", _facts(content)))
    if content.commands:
        lines = "\n".join(html.escape(command) for command in content.commands)
        sections.append(_section("Next", f"<pre>{lines}</pre>"))
    if content.config_text:
        text = html.escape(content.config_text)
        sections.append(f"<section><details><summary>Configuration</summary><pre>{text}</pre>"
                        "</details></section>")  # fmt: skip
    title = html.escape(content.title)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>"
        + "\n".join(section for section in sections if section)
        + "</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>" if body else ""


def _headline(content: ReportContent) -> str:
    metrics = content.metrics
    low, high = 100 * metrics["accuracy_low"], 100 * metrics["accuracy_high"]
    accuracy = 100 * metrics["accuracy"]
    warnings = "".join(f"<p class='warn'>{html.escape(text)}</p>" for text in content.warnings)
    tiles = [
        ("top-5", f"{100 * metrics['top5']:.2f} %"),
        ("loss", "not finite" if metrics["loss"] is None else f"{metrics['loss']:.4f}"),
        ("images", f"{metrics['count']:,}"),
    ]
    if content.val_metrics is not None:
        tiles.append(
            ("on the images it was chosen by", f"{100 * content.val_metrics['accuracy']:.2f} %")
        )
    cells = "".join(
        f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>"
        for name, value in tiles
    )
    return (
        f"<header><h1>{html.escape(content.title)}</h1>{warnings}"
        f"<div class='score'>{accuracy:.2f}<small>%</small></div>"
        f"<p class='sub'>accuracy on the split {html.escape(str(metrics['split']))}; "
        f"95 % interval {low:.2f} to {high:.2f} %</p>"
        f"<div class='interval'><i style='left:{low:.3f}%;width:{max(high - low, 0.4):.3f}%'></i>"
        f"<b style='left:{accuracy:.3f}%'></b></div><div class='tiles'>{cells}</div></header>"
    )


def _bar(value: float) -> str:
    if np.isnan(value):
        return "<td class='num'>-</td>"
    return f"<td class='num bar' style='--v:{100 * value:.1f}%'>{value:.3f}</td>"


def _class_table(content: ReportContent) -> str:
    scores = per_class(content.table)
    order = np.arange(len(scores.classes))
    note = ""
    if len(order) > _ROWS:
        order = np.argsort(np.nan_to_num(scores.f1, nan=2.0), kind="stable")[:_ROWS]
        whole = f"{_ROWS} weakest of {len(scores.classes)} classes; all are in per_class.csv"
        note = f"<p class='sub'>The {whole}.</p>"
    rows = "".join(
        f"<tr><th>{html.escape(scores.classes[row])}</th><td class='num'>{scores.support[row]}</td>"
        f"{_bar(scores.precision[row])}{_bar(scores.recall[row])}{_bar(scores.f1[row])}</tr>"
        for row in order
    )
    return (
        f"{note}<div class='scroll'><table><thead><tr><th>class</th><th class='num'>images</th>"
        "<th class='num'>precision</th><th class='num'>recall</th><th class='num'>F1</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _pairs(content: ReportContent) -> str:
    pairs = most_confused_pairs(content.table, 10)
    if not pairs:
        return "<p class='sub'>No image was mistaken.</p>"
    items = "".join(
        f"<li><b>{html.escape(pair.true)}</b> taken for <b>{html.escape(pair.predicted)}</b>"
        f"<span>{pair.count} of its images, {100 * pair.share:.1f} %</span></li>"
        for pair in pairs
    )
    return f"<ol class='pairs'>{items}</ol>"


def _picture(png: bytes, text: str) -> str:
    data = base64.b64encode(png).decode()
    return f"<img class='wide' alt='{html.escape(text)}' src='data:image/png;base64,{data}'>"


def _mistakes(content: ReportContent) -> str:
    table = content.table
    wrong = np.flatnonzero((table.top_classes[:, 0] != table.targets) & (table.targets >= 0))
    losses = np.nan_to_num(table.losses[wrong], nan=np.inf)
    worst = wrong[np.argsort(-losses, kind="stable")][:_WORST]
    if not len(worst):
        return ""
    cards = []
    for row in worst:
        guess = table.classes[table.top_classes[row, 0]]
        true = table.classes[table.targets[row]]
        picture = ""
        if content.thumbnail is not None:
            png = base64.b64encode(
                thumbnail_png(content.thumbnail(int(table.positions[row])))
            ).decode()
            picture = f"<img alt='' src='data:image/png;base64,{png}'>"
        cards.append(
            f"<figure title='{html.escape(content.names[row], quote=True)}'>{picture}<figcaption>"
            f"<b>{html.escape(guess)}</b> {100 * table.top_probabilities[row, 0]:.0f} %<br>"
            f"<span>is {html.escape(true)}</span></figcaption></figure>"
        )
    return f"<div class='gallery'>{''.join(cards)}</div>"


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


def _facts(content: ReportContent) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in content.facts.items()
    )
    return f"<div class='scroll'><table class='facts'><tbody>{rows}</tbody></table></div>"
