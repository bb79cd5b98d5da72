"""The verbs of `discern index`: build, check, add, remove, duplicates, outliers.

See `index_search` for the one that asks with images.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from discern.base.console import Console
from discern.base.names import counted
from discern.config.request import Request
from discern.data.feature_files import FeatureTable, join_feature_tables, read_feature_table
from discern.workflows.index.image_index import Index
from discern.workflows.index.index_files import changing_index

_SHOWN = 20


def build_verb(request: Request, console: Console) -> int:
    """`index build F... --pca N --out DIR`."""
    given, started = request.arguments, time.monotonic()
    table = _features(given["features"], console)
    index = Index.build(
        table,
        pca=given["pca"],
        metric=given["metric"],
        standardize=given["standardize"],
        way=given["search"],
    )
    index.save(given["out"])
    width = index.vectors.shape[1]
    steps = "standardized, " if given["standardize"] else ""
    axes = f"{width} principal axes" if given["pca"] else f"{width} features, no PCA"
    console.result(f"{counted(len(index), 'image')} in {given['out']}: {steps}{axes}, length 1")
    if given["pca"]:
        console.result(f"explained variance {index.explained_variance:.4f}")
    console.say(_search_words(index))
    told = {"index": given["out"], "images": len(index), "width": width, "metric": index.metric,
            "explained_variance": index.explained_variance, **_search_record(index)}  # fmt: skip
    labels = [head for head in table.heads if head.kind == "single"]
    if len(labels) == 1 and (labels[0].targets >= 0).any():
        own = index.recall(table)
        told["recall"] = _by_text(own.by_rank)
        console.say(f"among themselves: {_recall_words(own.by_rank)}")
    console.emit(told | {"seconds": round(time.monotonic() - started, 3)})
    return 0


def check_verb(request: Request, console: Console) -> int:
    """`index check DIR F`: Recall@k of labeled queries."""
    given = request.arguments
    index = _open(given["index"], console)
    table = _features(given["features"], console)
    found = index.recall(table, given["ranks"], head=given["label"])
    console.result(_recall_words(found.by_rank))
    console.say(f"  of {counted(found.queries, 'query', 'queries')} in {len(index)} images")
    if found.unlabeled:
        console.warn(f"not asked: {counted(found.unlabeled, 'image')} without a label")
    if found.own_left_out:
        console.say(f"  {found.own_left_out} are in the index and were not given themselves")
    console.emit(
        {"index": given["index"], "recall": _by_text(found.by_rank), "queries": found.queries,
         "unlabeled": found.unlabeled, "own_left_out": found.own_left_out,
         **_search_record(index)}
    )  # fmt: skip
    return 0


def add_verb(request: Request, console: Console) -> int:
    """`index add DIR F...`."""
    given = request.arguments
    table = _features(given["features"], console)
    with changing_index(Path(given["index"])):
        index = _open(given["index"], console)
        fresh = index.add(table)
        return _changed(fresh, len(fresh) - len(index), given["index"], console)


def remove_verb(request: Request, console: Console) -> int:
    """`index remove DIR ID...`."""
    given = request.arguments
    with changing_index(Path(given["index"])):
        index = _open(given["index"], console)
        fresh = index.remove(given["images"])
        return _changed(fresh, len(fresh) - len(index), given["index"], console)


def duplicates_verb(request: Request, console: Console) -> int:
    """`index duplicates DIR`: groups of images that lie together."""
    given = request.arguments
    index = _open(given["index"], console)
    groups = index.near_duplicates(given["similarity"])
    named = [[image_record(index, row) for row in group] for group in groups]
    several = sum(len({one["label"] for one in group}) > 1 for group in named)
    console.result(
        f"{counted(len(groups), 'group')} of near duplicates (cosine >= {given['similarity']}), "
        f"{sum(map(len, groups))} images; {several} with several labels"
    )
    for group in named[:_SHOWN]:
        console.say("  " + "   ".join(image_words(one) for one in group[:6]))
    console.emit({"index": given["index"], "groups": named, "several_labels": several})
    return 0


def outliers_verb(request: Request, console: Console) -> int:
    """`index outliers DIR`: the images that lie farthest from all others."""
    given = request.arguments
    index = _open(given["index"], console)
    found = index.outliers(given["count"])
    rows = [image_record(index, row) | {"distance": distance} for row, distance in found]
    for one in rows:
        console.result(f"{one['distance']:.4f}  {image_words(one)}")
    console.emit({"index": given["index"], "outliers": rows})
    return 0


def image_record(index: Index, row: int) -> dict[str, Any]:
    """One image of the index as plain values: row, id, path, label (of the only head)."""
    labels = [head for head in index.table.heads if head.kind == "single"]
    code = int(labels[0].targets[row]) if len(labels) == 1 else -1
    return {
        "row": row,
        "id": str(index.table.ids[row]),
        "path": str(index.table.paths[row]),
        "label": labels[0].classes[code] if code >= 0 else None,
    }


def image_words(one: dict[str, Any]) -> str:
    """A record of an image in a line."""
    return one["path"] if one["label"] is None else f"{one['path']} ({one['label']})"


def _open(folder: str, console: Console) -> Index:
    index = Index.open(folder)
    console.say(f"index    {folder}: {counted(len(index), 'image')}, {_search_words(index)}")
    return index


def _changed(index: Index, change: int, folder: str, console: Console) -> int:
    index.save(folder)
    console.result(f"{abs(change)} {'added' if change > 0 else 'removed'}, {len(index)} in all")
    console.say(_search_words(index))
    console.emit({"index": folder, "images": len(index), "change": change,
                  **_search_record(index)})  # fmt: skip
    return 0


def _features(names: list[str], console: Console) -> FeatureTable:
    tables = []
    for name in names:
        tables.append(read_feature_table(Path(name)))
        if not tables[-1].origin.model_hash:
            console.say(f"note: {name} is a bare array: its rows have numbers and no labels")
    return join_feature_tables(tables)


def _search_words(index: Index) -> str:
    way = "approximate" if index.choice.approximate else "exact"
    return f"{way} search ({index.choice.reason}), metric {index.metric}"


def _search_record(index: Index) -> dict[str, Any]:
    trial = index.choice.trial
    return {
        "search": "approximate" if index.choice.approximate else "exact",
        "reason": index.choice.reason,
        "trial_recall": None if trial is None else trial.recall,
    }


def _by_text(shares: dict[int, float]) -> dict[str, float]:
    return {str(rank): share for rank, share in shares.items()}


def _recall_words(shares: dict[int, float]) -> str:
    return "  ".join(f"Recall@{rank} {share:.4f}" for rank, share in shares.items())
