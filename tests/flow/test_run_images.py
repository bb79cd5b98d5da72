"""`discern runs compare A B --images`: two runs of digits, image by image."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from discern_process import QUICK, discern


def test_two_runs_are_compared_image_by_image(tmp_path: Path) -> None:
    runs = ("--runs", str(tmp_path / "runs"))
    for name, epochs in (("one", "1"), ("three", "3")):
        ended = discern("train", "digits", *QUICK, "--epochs", epochs, "--name", name, *runs)
        assert ended.code == 0, ended.stderr
    out = tmp_path / "out"
    ended = discern("runs", "compare", "one", "three", "--images", "--out", out, *runs, "--json")
    found = ended.object
    sizes = {cell: found[cell] for cell in ("fixed", "broken", "still_wrong", "right")}
    assert found["count"] == sum(sizes.values())
    scores = [
        json.loads((tmp_path / "runs" / "digits" / name / "run.json").read_text())["metrics"]
        for name in ("one", "three")
    ]
    assert found["accuracy"] == [score["accuracy"] for score in scores]
    assert found["count"] == scores[0]["count"]
    with (out / "fixed.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == sizes["fixed"] > 0
    page = (out / "index.html").read_text()
    assert page.count("data:image/jpeg") == sum(min(sizes[c], 48) for c in list(sizes)[:3])
    refused = discern("runs", "compare", "one", "--images", *runs, "--json")
    assert refused.code == 2
