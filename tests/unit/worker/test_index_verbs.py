"""Changes of an index by two commands at once."""

import threading

import numpy as np

from discern.base.console import Console
from discern.config.request import Request
from discern.data.feature_files import FeatureOrigin, FeatureTable, write_feature_table
from discern.worker import index_verbs
from discern.workflows.index.image_index import Index


def make_table(count, prefix):
    draw = np.random.default_rng(len(prefix))
    origin = FeatureOrigin(model="m", model_hash="ab", layer="features", classes={})
    return FeatureTable(
        features=draw.normal(size=(count, 6)).astype(np.float32),
        ids=np.array([f"{prefix}{number}" for number in range(count)]),
        paths=np.array([f"{prefix}{number}.png" for number in range(count)]),
        split=np.zeros(count, dtype=np.int8),
        heads=(),
        origin=origin,
    )


def test_two_commands_that_add_at_once_lose_nothing(tmp_path, monkeypatch):
    Index.build(make_table(20, "a")).save(tmp_path / "index")
    for prefix in ("bb", "ccc"):
        write_feature_table(tmp_path / f"{prefix}.parquet", make_table(5, prefix))

    def add(prefix):
        arguments = {
            "index": str(tmp_path / "index"), "features": [str(tmp_path / f"{prefix}.parquet")],
        }  # fmt: skip
        index_verbs.add_verb(Request(verb="index-add", arguments=arguments), Console(quiet=True))

    other = threading.Thread(target=add, args=("ccc",))
    opened = index_verbs._open

    def open_slowly(folder, console):
        found = opened(folder, console)
        if not other.ident:
            other.start()  # between the reading and the writing of the first
            other.join(0.5)
        return found

    monkeypatch.setattr(index_verbs, "_open", open_slowly)
    add("bb")
    other.join()
    ids = Index.open(tmp_path / "index").table.ids.tolist()
    assert (20, 5, 5) == tuple(sum(one.startswith(first) for one in ids) for first in "abc")
