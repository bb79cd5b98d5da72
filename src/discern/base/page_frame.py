"""The frame of every page that Discern writes: works offline, fetches nothing, runs nothing."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final

from discern.base.page_style import STYLE

# Nothing may be fetched and nothing run, whatever a class name or path holds.
_POLICY: Final = "default-src 'none'; img-src {images}; style-src 'unsafe-inline'"


def whole_page(
    title: str, sections: Iterable[str], *, footer: str, style: str = "", images: str = "data:"
) -> str:
    """A page of `sections` (HTML), empty ones left out; `title` is plain text, `footer` HTML.

    `style` is added to the sheet of every page. `images`: where pictures may come from; by default
    the page holds them itself.
    """
    policy = _POLICY.format(images=images)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<link rel='icon' href='data:,'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}\n{style}</style></head><body><main>"
        + "\n".join(section for section in sections if section)
        + f"<footer>Written by Discern. {footer}</footer></main></body></html>\n"
    )


def page_section(title: str, body: str, note: str = "", *, half: bool = False) -> str:
    """A panel with a heading and a note in soft ink, half as wide if asked; no panel of nothing."""
    if not body:
        return ""
    under = f"<p class='sub'>{note}</p>" if note else ""
    kind = " class='half'" if half else ""
    return f"<section{kind}><h2>{title}</h2>{under}{body}</section>"
