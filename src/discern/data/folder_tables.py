"""Folders whose images are labeled by a table beside them.

Owns two ways in: Hugging Face's image folders (`metadata.csv`, `.jsonl` or `.parquet`, also one in
each of train and test), and a folder of images with exactly one table that names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from discern.base.errors import DataError
from discern.data.folders import ImageTree, link_notes, list_folder
from discern.data.headless_tables import is_headless, list_headless
from discern.data.label_spec import LabelChoice
from discern.data.listing import SPLIT_FOLDERS, Listing, in_split, join_listings
from discern.data.manifest import NO_SPLIT
from discern.data.manifest_files import is_manifest
from discern.data.table_files import is_table, read_table
from discern.data.tables import PATH_COLUMNS, list_table, table_root

METADATA: Final = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_PROBED: Final = 5


def list_table_folder(
    folder: Path,
    tree: ImageTree,
    label: LabelChoice = None,
    *,
    needs_labels: bool = True,
    lenient: bool = False,
) -> Listing | None:
    """The images of `folder` as a table in it labels them; None if none does.

    Class folders with a stray table stay class folders. Options as in `tables.list_table`.
    Raises DataError if several tables name the images, or for the faults of the table itself.
    """
    read = partial(_read, label=label, needs_labels=needs_labels, lenient=lenient)
    found = _metadata_listing(folder, tree, partial(_metadata_labels, read=read))
    if found is not None or not _is_flat(tree.paths):
        return None if found is None else _with_tree(found, tree)
    tables, unread = _tables_of_images(folder, manifests=needs_labels)
    if not tables and unread and needs_labels:
        raise unread[0]
    notes = [f"left out: {error.where}: {error.what}" for error in unread]
    if not tables:
        plain = list_folder(folder, tree, lenient=lenient) if notes else None
        return None if plain is None else replace(plain, notes=(*plain.notes, *notes))
    codes = [SPLIT_FOLDERS.get(path.stem.casefold()) for path in tables]
    parts = [read(path) for path in tables]
    if len(tables) == 1:
        return _with_tree(parts[0], tree, notes)
    named = [code for code in codes if code is not None]
    if len(set(named)) < len(tables):
        raise DataError(
            "several tables name the images of the folder",
            where=folder,
            got=", ".join(path.name for path in tables),
            expected="one, or one for each of train, val and test",
            hint=f"name the one that counts: {tables[0]}",
        )
    marked = [in_split(part, code) for part, code in zip(parts, named, strict=True)]
    layout = f"tables {', '.join(path.name for path in tables)}"
    return _with_tree(
        join_listings(marked, layout=layout, name=folder.absolute().name), tree, notes
    )


def names_images(path: Path) -> bool:
    """True if the table has a column of paths, and its first images are there."""
    if is_headless(path):
        listing = list_headless(path, lenient=True)
        return len(listing) > 0
    table = read_table(path)
    folded = {name.casefold(): name for name in table.columns}
    column = next((folded[name] for name in PATH_COLUMNS if name in folded), None)
    if column is None or not table.rows:
        return False
    paths = [str(value) for value in table.columns[column]]
    root = table_root(paths, path, None)
    return any((root / name).is_file() for name in paths[:_PROBED])


def _tables_of_images(folder: Path, *, manifests: bool) -> tuple[list[Path], list[DataError]]:
    """(tables in `folder` that name its images, the errors of those that cannot be read)."""
    tables, unread = [], []
    for path in _tables(folder):
        try:
            if names_images(path) and (manifests or not is_manifest(path)):
                tables.append(path)
        except DataError as error:
            unread.append(error)
    return tables, unread


def _tables(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_file() and is_table(entry) and not entry.name.startswith("."):
            yield entry


def _is_flat(paths: Sequence[str]) -> bool:
    """Images lie in the folder itself, or all in the same folder within: not in class folders."""
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    return not tops or any("/" not in path for path in paths) or len(tops) == 1


def _read(path: Path, *, label: LabelChoice, needs_labels: bool, lenient: bool) -> Listing:
    if is_headless(path):
        return list_headless(path, lenient=lenient)
    if is_manifest(path):
        raise DataError(
            "the folder holds a manifest of its images", where=path,
            hint="name the manifest itself as the data",
        )  # fmt: skip
    return list_table(path, label, needs_labels=needs_labels, lenient=lenient)


def _metadata_labels(path: Path, read: Callable[..., Listing]) -> Listing | None:
    """The images of a metadata file; None if it labels none, so that the folders do."""
    listing = read(path, needs_labels=False)
    return None if all(head.missing().all() for head in listing.heads) else listing


def _metadata_listing(
    folder: Path, tree: ImageTree, read: Callable[[Path], Listing | None]
) -> Listing | None:
    whole = _metadata_file(folder)
    if whole is not None:
        listing = read(whole)
        if listing is None:
            return None
        layout = f"Hugging Face image folder, {listing.layout}"
        return replace(
            _split_by_folders(listing), layout=layout, name=folder.absolute().name or "data"
        )
    tops = sorted({path.partition("/")[0] for path in tree.paths if "/" in path})
    if not tops or not {top.casefold() for top in tops} <= set(SPLIT_FOLDERS):
        return None
    files = {top: _metadata_file(folder / top) for top in tops}
    there = [path for path in files.values() if path is not None]
    if not there:
        return None
    if len(there) < len(files):
        raise DataError(
            "some of the split folders have no metadata file",
            where=folder,
            got=", ".join(top for top, path in files.items() if path is None),
            expected=f"{' or '.join(METADATA)} in each, or in none",
        )
    parts = []
    for path in there:
        found = read(path)
        if found is None:
            return None
        parts.append(in_split(found, SPLIT_FOLDERS[path.parent.name.casefold()]))
    rows = sum(len(part) for part in parts)
    layout = (
        f"Hugging Face image folder, {', '.join(f'{p.parent.name}/{p.name}' for p in there)}, "
        f"{rows} rows"
    )
    return join_listings(parts, layout=layout, name=folder.absolute().name or "data")


def _metadata_file(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _split_by_folders(listing: Listing) -> Listing:
    """Splits from paths like train/0.jpg, if every path begins with a split's name."""
    tops = [path.partition("/")[0].casefold() for path in listing.locations.paths.tolist()]
    if (listing.split != NO_SPLIT).any() or not set(tops) <= set(SPLIT_FOLDERS):
        return listing
    codes = np.array([SPLIT_FOLDERS[top] for top in tops], dtype=np.int8)
    return replace(listing, split=codes)


def _with_tree(listing: Listing, tree: ImageTree, more: Sequence[str] = ()) -> Listing:
    """The listing with the folder's faults, and a note on images that the table does not name."""
    named = len(set(listing.locations.paths.tolist()))
    notes = [*more, *link_notes(tree.faults)]
    if named < len(tree.paths):
        notes.append(f"{len(tree.paths) - named} images in the folder are not in the table")
    return replace(
        listing,
        notes=(*listing.notes, *notes),
        faults=(*listing.faults, *tree.faults),
    )
