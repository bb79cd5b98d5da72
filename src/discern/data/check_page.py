"""The check's one page: works offline, holds its pictures, runs no script, escapes every text.

Owns what is shown and how much of it; pictures of copies stand side by side. Colors and shapes are
those of every page (`discern.base.page_style`).
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from discern.base.errors import DataError
from discern.base.files import write_text
from discern.base.page_frame import page_section, whole_page
from discern.data.check_findings import KINDS, SEVERITIES, UNREADABLE, CheckReport, Finding
from discern.data.check_size_chart import sizes_svg
from discern.data.images import Pixels, viewable

_THUMBNAIL: Final = 96
# What one page shows at most; the JSON record has all. 360 pictures are about 1.5 MB.
_GROUPS: Final = 24
_MEMBERS: Final = 6
_GALLERY: Final = 12
_LISTED: Final = 60
_PICTURES: Final = 360
# Beyond this many classes the table shows the largest and the smallest, the rest folded away.
_OPEN_CLASSES: Final = 30
_ENDS: Final = 10
_GROUP_KINDS: Final = (
    ("label-conflict", "Same image, different labels", "Decide on one label, or leave them out."),
    ("leakage", "Same image in two splits", "What is learned from is scored again: too good."),
    ("exact-duplicate", "Same bytes", "Equal files under several names."),
    ("near-duplicate", "Nearly the same picture", "Copies resized, compressed or cut again."),
)
_PLAIN_COPIES: Final = ("exact-duplicate", "near-duplicate")
_GALLERY_KINDS: Final = (
    "damaged", "blank", "tiny", "aspect-outlier", "grey-among-color", "odd-mode", "exif-rotated",
)  # fmt: skip
_OWN_STYLE: Final = """
.groups{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:16px}
.group{display:flex;flex-wrap:wrap;gap:12px;padding:12px;align-content:flex-start;min-width:0;
border:1px solid var(--line);border-radius:8px}
.group.many{grid-column:1/-1}
.group>p{flex:1 0 100%;margin:0;font-size:13px;overflow-wrap:anywhere}
.group figure{width:114px}
.group figcaption{font-size:12px;line-height:1.35;margin-top:6px;overflow-wrap:anywhere}
.group figcaption span{color:var(--soft)}
.error{color:var(--bad);font-weight:600} .warning{color:var(--warn);font-weight:600}
.note{color:var(--soft)} th.error,th.warning,th.note{white-space:nowrap;overflow-wrap:normal}
.findings td:nth-last-child(-n+2){min-width:170px}
h3{font-size:13px;font-weight:600;margin:20px 0 10px} h3 span{color:var(--soft);font-weight:400}
.kind,td.num{white-space:nowrap}
.scatter{width:100%;max-width:560px;height:auto} .scatter .p{fill:var(--accent)}
.scatter text{font-size:11px}
""".strip()


class _Album:
    """Thumbnails as data URIs, of each image once, and not more than a page can hold."""

    def __init__(self, report: CheckReport) -> None:
        self._read: Callable[[int], Pixels] | None = report.read
        self._made: dict[int, str] = {}

    def thumbnail(self, row: int) -> str:
        """The picture of image `row`, or words instead of it."""
        if row not in self._made:
            if self._read is None or len(self._made) >= _PICTURES:
                return "<div class='thumb'>not shown</div>"
            try:
                picture = f"<img alt='' src='{thumbnail_uri(self._read(row))}'>"
            except DataError:
                picture = "cannot be read"
            self._made[row] = f"<div class='thumb'>{picture}</div>"
        return self._made[row]


def write_check_page(report: CheckReport, path: Path) -> None:
    """Write the page of `report` to `path` (HTML), atomically."""
    write_text(path, render_check_page(report))


def render_check_page(report: CheckReport) -> str:
    """The page as HTML text; reads at most 360 images again for their thumbnails."""
    album = _Album(report)
    sections = [
        _headline(report),
        page_section("Findings", _findings(report), "Worst first."),
        *(_groups(report, album, *kind) for kind in _GROUP_KINDS),
        page_section("Cannot be read", _unreadable(report), "They are never trained on."),
        page_section("Out of the ordinary", _galleries(report, album)),
        page_section("Classes", _classes(report), "Images per class."),
        page_section("Sizes", sizes_svg(report.images.sizes), "Each dot is an image, in pixels."),
        page_section("Notes", _list(report.notes)),
    ]
    return whole_page(
        f"Check of {report.source}",
        sections,
        style=_OWN_STYLE,
        footer="Nothing was changed or deleted. All findings: the JSON record of "
        "<b>discern data check</b>",
    )


def _headline(report: CheckReport) -> str:
    read = report.files - report.unreadable
    counts = [(report.count(severity), severity) for severity in SEVERITIES]
    told = [f"{number:,} {name}{'s' * (number != 1)}" for number, name in counts if number]
    verdict = ", ".join(told) if told else "Nothing wrong was found"
    words = (
        f"<p>of {report.files:,} images are read, {report.unreadable:,} cannot be. {verdict}.<br>"
        f"<span>{html.escape(report.layout)}</span></p>"
    )
    grave = [kind for kind in report.kinds() if report.of_kind(kind)[0].severity == "error"]
    errors = "; ".join(f"{KINDS[kind].title}: {_number(report, kind)}" for kind in grave)
    if errors:
        errors = f"<p class='warn'>{errors[0].upper()}{errors[1:]}</p>"
    tiles = [(f"{len(report.classes):,}", "classes")]
    for kind, name in (
        ("exact-duplicate", "groups of equal bytes"),
        ("near-duplicate", "groups of near duplicates"),
        ("leakage", "groups in two splits"),
        ("label-conflict", "groups with different labels"),
    ):
        tiles.append((f"{len(report.of_kind(kind)):,}", name))
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)
    return (
        f"<header><h1>Check of {html.escape(report.source)}</h1>{errors}<div class='hero'>"
        f"<div class='score'>{read:,}</div>{words}</div><div class='tiles'>{cells}</div></header>"
    )


def _number(report: CheckReport, kind: str) -> str:
    found = report.of_kind(kind)
    images = len({row for finding in found for row in finding.rows})
    return f"{len(found):,}" if images <= len(found) else f"{len(found):,} ({images:,} images)"


def _findings(report: CheckReport) -> str:
    rows = []
    for kind in report.kinds():
        found = report.of_kind(kind)
        text = html.escape(found[0].text) if len(found) == 1 else KINDS[kind].title
        rows.append(
            f"<tr><th class='{found[0].severity}'>{found[0].severity}</th><td class='kind'>{kind}"
            f"</td><td class='num'>{_number(report, kind)}</td><td>{text}</td>"
            f"<td>{html.escape(KINDS[kind].hint)}</td></tr>"
        )
    if not rows:
        return "<p class='sub'>None.</p>"
    head = "<th></th><th>kind</th><th class='num'>number</th><th>what</th><th>what to do</th>"
    return (
        f"<div class='scroll' tabindex='0'><table class='findings'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _groups(report: CheckReport, album: _Album, kind: str, title: str, note: str) -> str:
    """Copies side by side; those shown as a conflict or leak are not shown again."""
    found = report.of_kind(kind)
    number = len(found)
    if kind in _PLAIN_COPIES:
        told = [*report.of_kind("label-conflict")[:_GROUPS], *report.of_kind("leakage")[:_GROUPS]]
        above = {finding.rows for finding in told}
        found = [finding for finding in found if finding.rows not in above]
    blocks = []
    for finding in found[:_GROUPS]:
        many = " many" if len(finding.rows) > 2 else ""
        figures = "".join(_figure(report, album, row) for row in finding.rows[:_MEMBERS])
        rest = len(finding.rows) - _MEMBERS
        more = f"<p class='sub'>and {rest:,} more</p>" if rest > 0 else ""
        blocks.append(
            f"<div class='group{many}'><p><span class='{finding.severity}'>{finding.severity}"
            f"</span> {html.escape(finding.text)}</p>{figures}{more}</div>"
        )
    body = f"<div class='groups'>{''.join(blocks)}</div>" if blocks else ""
    if number > len(found) and found:
        note += f" {number - len(found):,} shown above."
    if len(found) > _GROUPS:
        body += f"<p class='sub'>and {len(found) - _GROUPS:,} more groups</p>"
    return page_section(f"{title} ({number:,})", body, note)


def _figure(report: CheckReport, album: _Album, row: int) -> str:
    images = report.images
    path, label, split = images.paths[row], images.labels[row], images.splits[row]
    height, width = images.sizes[row].tolist()
    name = html.escape(path.rpartition("/")[2])
    what = html.escape(" / ".join(part for part in (split, label) if part is not None))
    size = f"{width} x {height}, {images.bytes[row] / 1000:,.0f} kB"
    return (
        f"<figure title='{html.escape(path)}'>{album.thumbnail(row)}<figcaption>"
        f"{f'<b>{what}</b><br>' if what else ''}{name}<br><span>{size}</span>"
        "</figcaption></figure>"
    )


def _unreadable(report: CheckReport) -> str:
    found = [
        finding
        for kind in UNREADABLE
        for finding in report.of_kind(kind)
        if finding.severity == "error"
    ]
    rows = "".join(
        f"<tr><th>{html.escape(finding.paths[0])}</th><td class='kind'>{finding.kind}</td>"
        f"<td>{html.escape(finding.text)}</td></tr>"
        for finding in found[:_LISTED]
    )
    if not rows:
        return ""
    more = f"<p class='sub'>and {len(found) - _LISTED:,} more</p>" if len(found) > _LISTED else ""
    return f"<div class='scroll' tabindex='0'><table><tbody>{rows}</tbody></table></div>{more}"


def _galleries(report: CheckReport, album: _Album) -> str:
    """Images unlike the others, a row for each kind."""
    parts = []
    for kind in _GALLERY_KINDS:
        members = _members(report.of_kind(kind))
        if not members:
            continue
        figures = "".join(
            f"<figure title='{html.escape(report.images.paths[row])}'>{album.thumbnail(row)}"
            f"<figcaption>{html.escape(report.images.paths[row].rpartition('/')[2])}<br>"
            f"<span>{html.escape(text)}</span></figcaption></figure>"
            for row, text in members[:_GALLERY]
        )
        shown = f"{min(len(members), _GALLERY):,} of {len(members):,}"
        parts.append(
            f"<h3>{KINDS[kind].title.capitalize()} <span>{shown}; "
            f"{html.escape(KINDS[kind].hint)}</span></h3><div class='gallery'>{figures}</div>"
        )
    return "".join(parts)


def _members(found: Iterable[Finding]) -> list[tuple[int, str]]:
    """(image, text) of findings, each image once."""
    told: dict[int, str] = {}
    for finding in found:
        for row in finding.rows:
            told.setdefault(row, finding.text)
    return list(told.items())


def _classes(report: CheckReport) -> str:
    counts = report.class_counts
    if not counts:
        return ""
    totals = report.classes
    names = list(totals)
    rows = {name: _class_row(name, counts, totals) for name in names}
    if len(names) <= _OPEN_CLASSES:
        return _class_table(counts, [rows[name] for name in names])
    ranked = sorted(names, key=lambda name: -totals[name])
    ends = [*ranked[:_ENDS], *ranked[-_ENDS:]]
    return (
        f"<p class='sub'>The {_ENDS} largest and the {_ENDS} smallest of {len(names):,}.</p>"
        f"{_class_table(counts, [rows[name] for name in ends])}"
        f"<details><summary>All {len(names):,} classes</summary>"
        f"{_class_table(counts, list(rows.values()))}</details>"
    )


def _class_row(name: str, counts: dict[str, dict[str, int]], totals: dict[str, int]) -> str:
    most = max(totals.values()) or 1
    cells = "".join(f"<td class='num'>{row.get(name, 0):,}</td>" for row in counts.values())
    bar = f"<i style='--v:{100 * totals[name] / most:.1f}%'></i>{totals[name]:,}"
    return f"<tr><th>{html.escape(name)}</th>{cells}<td class='meter'><span>{bar}</span></td></tr>"


def _class_table(counts: dict[str, dict[str, int]], rows: Sequence[str]) -> str:
    heads = "".join(f"<th class='num'>{html.escape(split)}</th>" for split in counts)
    return (
        "<div class='scroll' tabindex='0'><table><thead><tr><th>class</th>"
        f"{heads}<th class='num'>images</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div>"
    )


def _list(texts: Sequence[str]) -> str:
    items = "".join(f"<li><div>{html.escape(text)}</div></li>" for text in texts)
    return f"<ul class='pairs'>{items}</ul>" if items else ""


def thumbnail_uri(pixels: Pixels) -> str:
    """A small JPEG of [H, W, C] as `viewable` shows it; tiny images are enlarged unsmoothed."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(viewable(pixels)))
    scale = _THUMBNAIL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    way = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    stream = io.BytesIO()
    image.resize(size, way, reducing_gap=2.0).save(stream, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
