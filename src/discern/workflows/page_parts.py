"""Figures as the sections of a report write them."""

from __future__ import annotations


def percent(value: float, count: int) -> str:
    """With no more places than `count` images can tell."""
    return f"{100 * value:.2f}" if count >= 1000 else f"{100 * value:.1f}"
