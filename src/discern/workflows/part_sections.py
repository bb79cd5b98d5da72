"""The report page's sections beyond the scores: coverage, slices, groups, stress, views."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from discern.base.page_frame import page_section
from discern.training.coverage import CoverageCurve, coverage_curve
from discern.training.scores import EvalTable
from discern.training.tag_scores import TagTable
from discern.workflows.page_parts import percent
from discern.workflows.report_charts import confusion_svg

PART_STYLE: Final = """
.spans tbody th{min-width:130px} .spans td:nth-child(3){width:44%;min-width:130px}
.span{position:relative;display:block;height:8px;border-radius:4px;background:var(--line)}
.span i{position:absolute;top:0;bottom:0;border-radius:4px;background:var(--accent);opacity:.35}
.span b{position:absolute;top:-2px;width:3px;height:12px;border-radius:2px;margin-left:-1.5px;
background:var(--accent)}
.span u{position:absolute;top:-3px;bottom:-3px;width:1.5px;background:var(--soft)}
.leak{margin:16px 0 0;color:var(--soft);font-size:13px} .leak b{color:var(--ink)}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));
gap:20px 32px;align-items:center}
.stress{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:20px 32px}
.stress figcaption{font-weight:500;font-size:13px;margin-bottom:8px}
.stress div{display:grid;grid-template-columns:84px 1fr 36px;gap:8px;align-items:center;
font-size:12px;padding:3px 0}
.stress div>span:first-child{color:var(--soft)} .stress div>span:last-child{text-align:right}
.stress i{height:6px;border-radius:3px;background:linear-gradient(to right,var(--accent) var(--v),
var(--line) var(--v))}
""".strip()
_SHOWN_SLICES: Final = 12
_UNITS: Final = {
    "blur": "radius {:.1%}",
    "jpeg": "quality {:.0f}",
    "noise": "{:.0%}",
    "rotation": "{:.0f}°",
    "brightness": "x {:g}",
    "crop": "{:.0%}",
}
_SIDE, _LEFT, _TOP = (300, 150), 44, 8


def part_sections(parts: Mapping[str, Any], table: EvalTable | TagTable) -> list[str]:
    """A panel for each part that is there (see `ReportContent.parts`), and the coverage curve."""
    made = [
        page_section(
            "If it answers only what it is sure of",
            _coverage(table) if isinstance(table, EvalTable) else "",
            "How many of its surest answers are right.",
            half=parts.get("calibration") is not None,  # alone in its row it is whole
        ),
        page_section("Calibration", _calibration(parts.get("calibration")), half=True),
        page_section("What it answers", _answers(parts.get("answers"))),
        page_section(
            "Weakest slices",
            _slices(parts.get("slices"), table),
            "Parts of at least 10 images; the bar is the 95% interval, the gray line all images.",
        ),
        page_section("Groups of classes", _groups(parts.get("groups"))),
        page_section(
            "Under stress",
            _stress(parts.get("stress")),
            "The same images, changed at the network's input size.",
        ),
        page_section("Several views of each image", _views(parts.get("tta"))),
    ]
    return [text for text in made if text]


def leak_words(part: Mapping[str, Any] | None) -> str:
    """The score without images that are like a training image, under the headline."""
    if part is None:
        return ""
    if not part["removed"]:
        return (
            f"<p class='leak'>No image is like a training image, by {html.escape(part['compared'])}"
            f"{_noted(part)}.</p>"
        )
    removed = (
        f"{part['removed']:,} images are like a training image ({part['exact']:,} equal, "
        f"{part['near']:,} nearly)"
    )
    if part["accuracy"] is None:
        return f"<p class='warn'>{removed}: none is left.</p>"
    count = part["count"]
    return (
        f"<p class='leak'><b>{percent(part['accuracy'], count)}% leak-free</b>: without "
        f"{removed}, {count:,} are left; expect {percent(part['accuracy_low'], count)} to "
        f"{percent(part['accuracy_high'], count)}%{_noted(part)}.</p>"
    )


def _noted(part: Mapping[str, Any]) -> str:
    return f" ({html.escape(part['note'])})" if part["note"] else ""


def _coverage(table: EvalTable) -> str:
    if not table.labeled.any():
        return ""
    curve = coverage_curve(table)
    rows = "".join(
        f"<tr><th>surest {row['coverage']:.0%}</th>"
        f"<td class='num'>{100 * row['accuracy']:.1f}%</td>"
        f"<td class='num'>from {100 * row['least_probability']:.0f}%</td></tr>"
        for row in curve.record()[2:]
    )
    return (
        f"<div class='beside'>{coverage_svg(curve)}<table><thead><tr><th>answered</th>"
        "<th class='num'>right</th><th class='num'>stated</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def coverage_svg(curve: CoverageCurve) -> str:
    """Accuracy (up) of the surest share of the images (across)."""
    width, height = _SIDE
    low = max(0.0, min(float(curve.accuracy.min()), 0.95) - 0.03)

    def place(coverage: float, accuracy: float) -> str:
        x = _LEFT + coverage * (width - _LEFT - 10)
        y = _TOP + (1 - (accuracy - low) / (1 - low)) * (height - _TOP - 26)
        return f"{x:.1f},{y:.1f}"

    points = zip(curve.coverage.tolist(), curve.accuracy.tolist(), strict=True)
    line = " ".join(place(coverage, accuracy) for coverage, accuracy in points)
    marks = []
    for accuracy in (low, (1 + low) / 2, 1.0):
        left, y = place(0, accuracy).split(",")
        marks.append(
            f"<line class='grid' x1='{left}' x2='{width - 10}' y1='{y}' y2='{y}'/>"
            f"<text class='n' x='{float(left) - 6:.1f}' y='{y}' dy='.35em' text-anchor='end'>"
            f"{100 * accuracy:.0f}%</text>"
        )
    for coverage in (0, 0.5, 1):
        x = place(coverage, low).split(",")[0]
        marks.append(
            f"<text class='n' x='{x}' y='{height - 4}' text-anchor='middle'>{coverage:.0%}</text>"
        )
    return (
        f"<div class='chart'><svg viewBox='0 0 {width} {height}' font-size='10' role='img' "
        f"aria-label='Accuracy by the share of images that is answered'>{''.join(marks)}"
        f"<polyline class='line' points='{line}'/></svg></div>"
    )


def _calibration(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return ""
    names = {
        "ece": "calibration error (ECE)",
        "brier": "Brier score",
        "loss": "loss",
        "bias": "stated minus right",
    }
    after = part["at_temperature"]
    rows = "".join(
        f"<tr><th>{words}</th><td class='num'>{part[name]:.4f}</td>"
        + (f"<td class='num'>{after[name]:.4f}</td>" if after else "")
        + "</tr>"
        for name, words in names.items()
    )
    head = "<th></th><th class='num'>as it is</th>"
    note = "Lower is better."
    if after:
        temperature = part["temperature"]
        head += f"<th class='num'>at temperature {temperature:.2f}</th>"
        note += (
            " The temperature is cross-validated: each image is scored at one fitted without it. "
            "<b>discern calibrate</b> stores one in the bundle."
        )
    return (
        f"<p class='sub'>{note}</p><div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _answers(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return ""
    right = "none" if part["accuracy"] is None else f"{100 * part['accuracy']:.1f}%"
    tiles = [
        (f"{100 * part['coverage']:.1f}%", "answered"),
        (f"{part['unknown']:,}", "called unknown"),
        (right, "right of the answered"),
    ]
    if part["macro_f1"] is not None:
        tiles.append((f"{part['macro_f1']:.4f}", "mean F1, at the bundle's thresholds"))
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)
    return f"<div class='tiles'>{cells}</div>"


def _slices(part: Sequence[Mapping[str, Any]] | None, table: EvalTable | TagTable) -> str:
    if not part:
        return ""
    whole = float(table.correct[table.labeled].mean())
    rows = []
    for row in part[:_SHOWN_SLICES]:
        bar = (
            f"<span class='span'><i style='left:{100 * row['low']:.1f}%;"
            f"width:{max(100 * (row['high'] - row['low']), 0.6):.1f}%'></i>"
            f"<u style='left:{100 * whole:.1f}%'></u>"
            f"<b style='left:{100 * row['accuracy']:.1f}%'></b></span>"
        )
        rows.append(
            f"<tr><th>{html.escape(row['fact'])} {html.escape(row['value'])}</th>"
            f"<td class='num'>{row['count']:,}</td><td>{bar}</td>"
            f"<td class='num'>{100 * row['accuracy']:.1f}%</td>"
            f"<td class='num'>{100 * row['low']:.1f} to {100 * row['high']:.1f}</td></tr>"
        )
    return (
        "<div class='scroll'><table class='spans'><thead><tr><th>slice</th><th class='num'>images"
        "</th><th></th><th class='num'>right</th><th class='num'>95% interval</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _groups(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return ""
    matrix = np.array(part["confusion"], dtype=np.int64)
    count = part["count"]
    picture = confusion_svg(matrix, tuple(part["classes"])) if len(part["classes"]) <= 50 else ""
    pairs = "".join(
        f"<li><div>{html.escape(pair['true'])} <em>taken for</em> "
        f"{html.escape(pair['predicted'])}</div><span>{pair['count']:,} · "
        f"{100 * pair['share']:.1f}%</span></li>"
        for pair in part["most_confused"][:8]
    )
    return (
        f"<p class='sub'>{percent(part['accuracy'], count)}% are in the right group.</p>"
        f"<div class='scroll' tabindex='0'>{picture}</div><ol class='pairs'>{pairs}</ol>"
    )


def _stress(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return ""
    figures = []
    for kind, rows in part["kinds"].items():
        bars = "".join(
            f"<div><span>{_UNITS[kind].format(row['strength'])}</span>"
            f"<i style='--v:{100 * row['accuracy']:.1f}%'></i>"
            f"<span>{100 * row['accuracy']:.1f}</span></div>"
            for row in rows
        )
        figures.append(f"<figure><figcaption>{kind}</figcaption>{bars}</figure>")
    return (
        f"<p class='sub'>{percent(part['accuracy'], part['count'])}% of {part['count']:,} images "
        f"untouched.</p><div class='stress'>{''.join(figures)}</div>"
    )


def _views(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return ""
    count = part["count"]
    return (
        f"<p>{percent(part['accuracy'], count)}% are right by the mean of {part['views']} views of "
        f"each image (95%: {percent(part['accuracy_low'], count)} to "
        f"{percent(part['accuracy_high'], count)}). {part['mended']:,} answers are mended, "
        f"{part['spoiled']:,} spoiled.</p>"
    )
