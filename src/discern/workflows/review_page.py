"""The review's one page: the likeliest mistakes with their pictures; offline, without a script.

Owns what is shown and how much of it. Colors and shapes are those of every page.
"""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Final

import numpy as np

from discern.base.errors import DataError
from discern.base.page_frame import page_section, whole_page
from discern.data.check_page import thumbnail_uri
from discern.data.images import decode_image
from discern.data.review_queue import QueueRow
from discern.training.label_suspects import REASONS
from discern.workflows.class_curve_files import curves_picture

if TYPE_CHECKING:
    from discern.workflows.review_files import ReviewContent

# Pictures on the page; the queue's files have all. 200 are about 1 MB.
_PICTURES: Final = 200
_OWN_STYLE: Final = """
.queue{display:grid;grid-template-columns:repeat(auto-fill,minmax(232px,1fr));gap:12px}
.queue figure{display:flex;gap:12px;padding:10px;border:1px solid var(--line);border-radius:8px;
min-width:0}
.queue .thumb{flex:0 0 100px;width:100px}
.queue figcaption{font-size:12px;line-height:1.4;overflow-wrap:anywhere;min-width:0}
.queue figcaption b{font-weight:600} .queue em{font-style:normal;color:var(--bad)}
.queue figcaption span{color:var(--soft);display:block}
.curves img{width:100%;max-width:960px;height:auto;border-radius:6px;background:#fff}
""".strip()


def render_review_page(content: ReviewContent) -> str:
    """The page as HTML text; reads at most 200 images again for their thumbnails."""
    sections = [
        _headline(content),
        page_section("Queue", _queue(content), "The likeliest mistakes first: label, suggestion."),
        page_section("Reasons", _reasons(content)),
        page_section("Classes", _classes(content), "The hardest first, by images out of fold."),
        _curves(content),
    ]
    return whole_page(
        f"Review of {content.name}",
        sections,
        style=_OWN_STYLE,
        footer="Nothing was changed. Decisions: <b>discern data decide</b>",
    )


def _headline(content: ReviewContent) -> str:
    known = int((content.codes >= 0).sum())
    figures = content.accuracy
    overlay = f"decisions v{content.overlay}" if content.overlay else "the data's own labels"
    words = (
        f"<p>suspect labels of {known:,}. Out of fold {100 * figures['accuracy']:.1f} % of the "
        f"labels are predicted (95 %: {100 * figures['accuracy_low']:.1f} to "
        f"{100 * figures['accuracy_high']:.1f}).<br><span>{html.escape(content.evidence)}; "
        f"{overlay}</span></p>"
    )
    tiles = "".join(
        f"<div><b>{sum(name in row.reasons for row in content.rows):,}</b><span>{name}</span></div>"
        for name in REASONS
    )
    return (
        f"<header><h1>Review of {html.escape(content.name)}</h1><div class='hero'>"
        f"<div class='score'>{len(content.rows):,}</div>{words}</div>"
        f"<div class='tiles'>{tiles}</div></header>"
    )


def _queue(content: ReviewContent) -> str:
    if not content.rows:
        return "<p class='sub'>Nothing is held against any label.</p>"
    places = {name: row for row, name in enumerate(content.manifest.ids.tolist())}
    figures = "".join(_figure(content, row, places[row.id]) for row in content.rows[:_PICTURES])
    rest = len(content.rows) - _PICTURES
    more = f"<p class='sub'>and {rest:,} more in queue.csv</p>" if rest > 0 else ""
    return f"<div class='queue'>{figures}</div>{more}"


def _figure(content: ReviewContent, row: QueueRow, position: int) -> str:
    better = f" &rarr; <b>{html.escape(row.suggested)}</b>" if row.suggested else ""
    copies = f", {len(row.copies)} more copies" if row.copies else ""
    name = row.path.rpartition("/")[2]
    return (
        f"<figure title='{html.escape(row.path)}'><div class='thumb'>"
        f"{_picture(content, position)}</div><figcaption><b>#{row.rank}</b> {row.score:.2f}<br>"
        f"<em>{html.escape(row.label)}</em>{better}<span>{html.escape(', '.join(row.reasons))}"
        f"{copies}</span><span>{html.escape(name)}</span></figcaption></figure>"
    )


def _picture(content: ReviewContent, position: int) -> str:
    try:
        data = content.source.read(position)
        name = content.source.name(position)
        pixels = decode_image(data, channels=3, name=name) if isinstance(data, bytes) else data
    except DataError:
        return "cannot be read"
    return f"<img alt='' src='{thumbnail_uri(pixels)}'>"


def _reasons(content: ReviewContent) -> str:
    rows = "".join(
        f"<tr><th>{name}</th><td class='num'>{count:,}</td><td>{html.escape(text)}</td></tr>"
        for name, text in REASONS.items()
        if (count := sum(name in row.reasons for row in content.rows))
    )
    return f"<div class='scroll' tabindex='0'><table><tbody>{rows}</tbody></table></div>"


def _classes(content: ReviewContent) -> str:
    """Of each class the images, the suspects, and the share that is predicted out of fold."""
    found = []
    for code, name in enumerate(content.head.classes):
        own = content.codes == code
        if own.any():
            right = float((content.predicted[own] == code).mean())
            found.append((right, name, int(own.sum())))
    suspects = np.unique([row.label for row in content.rows], return_counts=True)
    many = dict(zip(suspects[0].tolist(), suspects[1].tolist(), strict=True))
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td class='num'>{count:,}</td>"
        f"<td class='num'>{many.get(name, 0):,}</td><td class='meter'><span>"
        f"<i style='--v:{100 * right:.1f}%'></i>{100 * right:.1f} %</span></td></tr>"
        for right, name, count in sorted(found)
    )
    return (
        "<div class='scroll' tabindex='0'><table><thead><tr><th>class</th>"
        "<th class='num'>images</th><th class='num'>suspects</th>"
        f"<th class='num'>predicted</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _curves(content: ReviewContent) -> str:
    if content.curves is None:
        return ""
    picture = base64.b64encode(curves_picture(content.curves, content.head.classes)).decode()
    image = f"<img alt='Accuracy over images' src='data:image/png;base64,{picture}'>"
    body = f"<div class='curves'>{image}</div>"
    note = (
        "Where more photos help: probes on growing parts, a band of one standard deviation over "
        "the folds. The gain by twice the images is a forecast."
    )
    return page_section("More photos", body, note)
