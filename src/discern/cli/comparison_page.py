"""The page of two runs image by image: four counts, the test, and the pictures that changed.

Works offline, holds its pictures, runs no script, escapes every text.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Final

from discern.base.errors import DiscernError
from discern.base.page_frame import whole_page
from discern.data.check_page import thumbnail_uri
from discern.data.images import Pixels
from discern.track.paired_answers import PairedAnswers, PairedImage

# Pictures of a cell on the page; its CSV file has all.
SHOWN: Final = 48
_TITLES: Final = {
    "fixed": ("Fixed", "Wrong in the first run, right in the second."),
    "broken": ("Broken", "Right in the first run, wrong in the second."),
    "still_wrong": ("Still wrong", "Wrong in both."),
}
_OWN_STYLE: Final = """
.four{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:12px;margin:20px 0 0}
.four div{border:1px solid var(--line);border-radius:8px;padding:14px 16px}
.four b{display:block;font-size:30px;font-weight:600;line-height:1.15}
.four span{color:var(--soft);font-size:12px} .four .up b{color:var(--accent)}
.four .down b{color:var(--bad)} .bar{display:flex;height:10px;border-radius:5px;overflow:hidden;
margin:18px 0 4px;background:var(--line);gap:2px} .bar i{background:var(--accent)}
.bar i.broken{background:var(--bad)}
@media(max-width:640px){.four{grid-template-columns:repeat(2,minmax(0,1fr))}}
""".strip()


def comparison_page(
    first: str, second: str, found: PairedAnswers, read: Callable[[str], Pixels] | None
) -> str:
    """The page as HTML text. `read`: an image's pixels by its id; None shows no pictures."""
    sections = [_headline(first, second, found)]
    for cell, (title, note) in _TITLES.items():
        images = found.cells[cell]
        more = f" The first {SHOWN} of {len(images):,}." if len(images) > SHOWN else ""
        body = _gallery(images[:SHOWN], read) or "<p class='sub'>No image.</p>"
        sections.append(
            f"<section><h2>{title} ({len(images):,})</h2><p class='sub'>{note}{more}</p>{body}"
            "</section>"
        )
    return whole_page(
        f"{first} and {second}",
        sections,
        style=_OWN_STYLE,
        footer="All images: fixed.csv, broken.csv, still_wrong.csv",
    )


def verdict(found: PairedAnswers) -> str:
    """What the test says, in words."""
    fixed, broken = len(found.cells["fixed"]), len(found.cells["broken"])
    if fixed == broken:
        return "Neither run is better on these images."
    better = "second" if fixed > broken else "first"
    if found.p_value < 0.05:
        return f"The {better} run is better: chance alone would hardly do this."
    return f"The {better} run is ahead, but chance alone would often do this."


def _headline(first: str, second: str, found: PairedAnswers) -> str:
    sizes = {cell: len(images) for cell, images in found.cells.items()}
    was = (sizes["broken"] + sizes["right"]) / found.count
    now = (sizes["fixed"] + sizes["right"]) / found.count
    cells = (
        (f"+{sizes['fixed']:,}", "fixed", "up"),
        (f"\N{MINUS SIGN}{sizes['broken']:,}", "broken", "down"),
        (f"{sizes['still_wrong']:,}", "still wrong", ""),
        (f"{sizes['right']:,}", "right in both", ""),
    )
    four = "".join(
        f"<div class='{kind}'><b>{value}</b><span>{name}</span></div>"
        for value, name, kind in cells
    )
    changed = max(sizes["fixed"] + sizes["broken"], 1)
    bar = (
        f"<div class='bar'><i style='width:{100 * sizes['fixed'] / changed:.1f}%'></i>"
        f"<i class='broken' style='width:{100 * sizes['broken'] / changed:.1f}%'></i></div>"
    )
    left = []
    if found.only_first or found.only_second:
        left.append(
            f"{found.only_first:,} images of the first run and {found.only_second:,} of the "
            "second are not in the other"
        )
    if found.other_labels:
        left.append(f"{found.other_labels:,} have another label in each and are left out")
    notes = f"<p class='warn'>{'; '.join(left)}.</p>" if left else ""
    return (
        f"<header><h1>{html.escape(first)} \N{RIGHTWARDS ARROW} {html.escape(second)}</h1>{notes}"
        f"<div class='hero'><div class='score'>{100 * (now - was):+.1f}<small>points</small></div>"
        f"<p>{100 * was:.2f}% and {100 * now:.2f}% of the same {found.count:,} images are named "
        f"right. {verdict(found)}<br><span>Exact McNemar test on the "
        f"{sizes['fixed'] + sizes['broken']:,} answers that changed: p = {found.p_value:.3g}."
        f"</span></p></div><div class='four'>{four}</div>{bar}</header>"
    )


def _gallery(images: Sequence[PairedImage], read: Callable[[str], Pixels] | None) -> str:
    cards = []
    for image in images:
        picture = "" if read is None else f"<div class='thumb'>{_picture(image.id, read)}</div>"
        cards.append(
            f"<figure title='{html.escape(image.image)}'>{picture}<figcaption>"
            f"<b>{html.escape(image.true)}</b><br><span>{html.escape(image.first)}"
            f"{_stated(image.first_probability)} \N{RIGHTWARDS ARROW} {html.escape(image.second)}"
            f"{_stated(image.second_probability)}</span></figcaption></figure>"
        )
    return f"<div class='gallery'>{''.join(cards)}</div>" if cards else ""


def _stated(probability: float | None) -> str:
    return "" if probability is None else f" {100 * probability:.0f}%"


def _picture(name: str, read: Callable[[str], Pixels]) -> str:
    try:
        return f"<img alt='' src='{thumbnail_uri(read(name))}'>"
    except (DiscernError, OSError, KeyError):
        return "cannot be read now"
