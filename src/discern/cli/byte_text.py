"""Sizes for people."""

from __future__ import annotations


def byte_text(count: int) -> str:
    """`count` bytes exactly, and in the unit that reads well: `1,234,567 bytes (1.2 MB)`."""
    size, exact = float(count), f"{count:,} bytes" if count != 1 else "1 byte"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 1000 or unit == "TB":
            break
    return exact if count < 1000 else f"{exact} ({size:.1f} {unit})"
