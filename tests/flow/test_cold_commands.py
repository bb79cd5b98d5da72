"""Commands that compute give the same in a new interpreter as forked from the warm parent.

The other flow tests fork them (`warm_parent.py`), so here each is started from nothing once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from discern_process import QUICK, discern, make_images, run_record
from warm_child import environment, fits_warm

QUICK_SEARCH = (*QUICK[:2], "--steps", "4", *QUICK[4:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images in `pets` and a finished run in `runs`: read them only."""
    root = tmp_path_factory.mktemp("folder")
    make_images(root / "pets")
    ended = discern("train", "pets", *QUICK, "--runs", "runs", "--name", "one", cwd=root)
    assert 0 == ended.code, ended.stderr
    return root


def both_ways(folder: Path, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the command prints with `--json`, from nothing and from the warm parent."""
    own = {"DISCERN_RUNS": str(folder / "runs")}
    ends = [
        discern(*words, "--json", cwd=folder, env=own, cold=cold, timeout=200)
        for cold in (True, False)
    ]
    assert [0, 0] == [ended.code for ended in ends], ends[0].stderr
    return ends[0].object, ends[1].object


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "pets/one", "pets", "--device", "cpu"),
        ("predict", "pets/one", "pets/ant/00.jpg", "--device", "cpu"),
        ("models", "show", "mlp"),
        ("data", "scan", "pets"),
        ("data", "preview", "pets", "--model", "mlp", "--device", "cpu"),
    ],
    ids=lambda words: words[0],
)
def test_answer_is_the_same(words: tuple[str, ...], folder: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out.png")) if "preview" in words else ()
    cold, warm = both_ways(folder, *words, *out)
    times = ("seconds", "images_per_s", "took_s")
    assert cold
    assert {k: v for k, v in warm.items() if k not in times} == {
        k: v for k, v in cold.items() if k not in times
    }


@pytest.mark.parametrize(
    "words",
    [
        ("lr-find", "pets", *QUICK_SEARCH),
        ("bench", "infer", "mlp", "--img-size", "16", "-b", "1", "--threads", "1"),
    ],
    ids=lambda words: words[0],
)
def test_answer_has_the_same_fields(words: tuple[str, ...], folder: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out")) if words[0] == "lr-find" else ()
    cold, warm = both_ways(folder, *words, *out)
    assert list(cold) == list(warm) != []


def test_training_scores_the_same(folder: Path, tmp_path: Path) -> None:
    words = ("train", "pets", *QUICK, "--deterministic", "--json")
    ends = [
        discern(*words, "--runs", tmp_path / str(cold), cwd=folder, cold=cold, timeout=200)
        for cold in (True, False)
    ]
    assert [0, 0] == [ended.code for ended in ends], ends[0].stderr
    cold, warm = (run_record(ended) for ended in ends)
    assert cold["metrics"] == warm["metrics"]
    assert cold["weights_hash"] == warm["weights_hash"]


@pytest.mark.skipif(
    bool(os.environ.get("DISCERN_TEST_COLD")) or not sys.platform.startswith("linux"),
    reason="all commands start in a new interpreter",
)
def test_what_imports_write_into_the_environment_makes_no_command_cold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fits_warm(environment())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not fits_warm(environment())
