"""Small pieces of HTML that the sections of a report are made of."""

from __future__ import annotations


def section(title: str, body: str, note: str = "", *, half: bool = False) -> str:
    """A panel of the page; nothing without a body."""
    if not body:
        return ""
    under = f"<p class='sub'>{note}</p>" if note else ""
    kind = " class='half'" if half else ""
    return f"<section{kind}><h2>{title}</h2>{under}{body}</section>"


def percent(value: float, count: int) -> str:
    """With no more places than `count` images can tell."""
    return f"{100 * value:.2f}" if count >= 1000 else f"{100 * value:.1f}"
