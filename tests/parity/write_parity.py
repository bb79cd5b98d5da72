"""Rewrites docs/parity.md from the feature marks: `python tests/parity/write_parity.py`."""

from __future__ import annotations

from feature_marks import PAGE, find_marks, read_features, write_page

if __name__ == "__main__":
    PAGE.write_text(write_page(read_features(), find_marks()), encoding="utf-8")
    print(f"wrote {PAGE}")
