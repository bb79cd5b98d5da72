"""What all tests share: real data when it is there, a cache and a runs folder of their own."""

from __future__ import annotations

import gc
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import first_environment
import pytest
from hypothesis import settings

# A busy machine is no failure: what takes long is measured in benchmarks/.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

REPOSITORY = Path(__file__).resolve().parent.parent


def shared_folder() -> Path | None:
    """The folder of real data: $DISCERN_TEST_DATA, else shared/data beside the repository."""
    given = os.environ.get("DISCERN_TEST_DATA")
    path = Path(given) if given else REPOSITORY.parent / "shared" / "data"
    return path if path.is_dir() else None


def pytest_collection_finish() -> None:
    """All test modules are imported: what they wrote into the environment is not a child's.

    Nor is what they made garbage: a collection would walk through a million objects each time.
    """
    first_environment.note_imports()
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests for a GPU are asked for by `-m gpu`; without one they say so."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU that torch can use")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images and weights; tests that need them skip where there are none."""
    path = shared_folder()
    if path is None:
        pytest.skip("no real data: neither $DISCERN_TEST_DATA nor ../shared/data")
    return path


@pytest.fixture(scope="session")
def _rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new folder each time, in a folder of thousands that nobody lists.

    The factory finds its next number by listing all that there are: a third of a quick test.
    """
    root = tmp_path_factory.mktemp("tests")
    return (root / f"{number:05d}" for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_folders(_rooms: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test's cache and runs out of the user's; gives the folder of both."""
    room = next(_rooms)
    for variable, name in {"DISCERN_CACHE": "cache", "DISCERN_RUNS": "runs"}.items():
        (room / name).mkdir(parents=True)
        monkeypatch.setenv(variable, str(room / name))
    return room


@pytest.fixture
def tmp_path(_own_folders: Path, request: pytest.FixtureRequest) -> Path:
    """An empty folder of the test's own, called after it."""
    path = _own_folders / re.sub(r"\W", "_", request.node.name)[:30]
    path.mkdir()
    return path
