"""Every way in: from what the user names to a listing, found by what lies there.

Owns the order in which kinds are tried, and the errors that say what was looked for. Each kind's
own module reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from discern.base.errors import DataError
from discern.base.names import nearest_names
from discern.data.archives import ARCHIVE_SUFFIXES, is_archive, list_archive
from discern.data.array_files import (
    NPZ_SUFFIX,
    is_array_file,
    list_array_file,
    list_array_folder,
    list_catalog,
)
from discern.data.catalog import BUILT_IN, Progress, read_catalog
from discern.data.folder_tables import list_table_folder
from discern.data.folders import ImageTree, link_notes, list_folder, walk_images
from discern.data.headless_tables import is_headless, list_headless
from discern.data.label_columns import LabelColumn
from discern.data.label_origin import mark_grown_folder
from discern.data.label_spec import LabelChoice
from discern.data.listing import SPLIT_FOLDERS, SUFFIXES, Listing, in_split, join_listings
from discern.data.manifest import Manifest
from discern.data.manifest_files import is_manifest, read_manifest
from discern.data.own_source import is_own_source, list_own_source
from discern.data.pixel_arrays import OwnImages, Pixels
from discern.data.record_data import is_records, list_records
from discern.data.record_files import list_lst
from discern.data.shard_index import refuse_unfinished
from discern.data.table_files import TABLE_SUFFIXES, is_table
from discern.data.tables import list_table
from discern.data.tar_shards import is_shards, list_shards

__all__ = ["WayIn", "list_manifest", "list_source"]

_LIST: Final = ".lst"
_RECORD: Final = ".rec"
_BRACES: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_NUMBERED: Final = 100_000
_SHOWN: Final = 3
_HINTS: Final = {
    ".idx": "the index of a record file goes with it: name the .rec",
    ".json": "a table is in JSON lines, one object an image: .jsonl",
    ".txt": "a list of images and labels is a table: .csv, or .lst as im2rec writes it",
    ".xlsx": "save the sheet as CSV (UTF-8)",
    ".xls": "save the sheet as CSV (UTF-8)",
    ".ods": "save the sheet as CSV (UTF-8)",
    ".npy": "pixels and labels come in one file: .npz",
    ".pkl": "pickles are not read, since they could run code: save arrays as .npz",
}
# Told where a folder or a file is of no kind.
_FOLDER_KINDS: Final = (
    "CLASS/image.jpg; train|val|test/CLASS/image.jpg; images and a table that names them; "
    "tar shards, .rec files, idx or CIFAR files"
)
_FILE_KINDS: Final = ", ".join(
    [*TABLE_SUFFIXES, *ARCHIVE_SUFFIXES, _RECORD, _LIST, NPZ_SUFFIX, "an idx or CIFAR file"]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WayIn:
    """What may be said about a source besides its name.

    `root`: folder of a built-in set's files, or where the paths of a table or list begin. `label`:
    label columns of a table. `lst`: labels for records instead of their own. `class_index`: JSON
    file that numbers the classes of a table. `needs_labels`: a table without any is refused.
    `lenient`: images that a table names in vain, and empty class folders, are faults of the listing
    instead of errors. `skip_damaged`: a record file that is cut or broken gives what lies before.
    `arguments`: those of a source of one's own.
    """

    root: str | None = None
    label: LabelChoice = None
    lst: str | None = None
    class_index: str | None = None
    needs_labels: bool = True
    lenient: bool = False
    skip_damaged: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """`root` as a path."""
        return None if self.root is None else Path(self.root).expanduser()


def list_source(
    source: str,
    root: str | None = None,
    label: LabelChoice = None,
    progress: Progress | None = None,
    *,
    way: WayIn | None = None,
) -> Listing:
    """The images of one DATA, whatever it is. Raises DataError for nothing of that name.

    `a,b` and `a-{0..9}.tar` name several sources, if there is nothing of that whole name;
    `table.csv,tag2class.json` a table and the numbers of its classes.
    """
    way = WayIn(root=root, label=label) if way is None else way
    path = Path(source).expanduser()
    if source in BUILT_IN and not (path.exists() and way.root is None):
        data = read_catalog(source, way.root, progress)
        return list_catalog(data, root=Path(), prefix=f"{source}/", name=source)
    if is_own_source(source):
        return list_own_source(source, way.arguments)
    if path.is_dir():
        return _unused_noted(_list_folder(path, way, progress), path, way)
    if path.is_file():
        return _unused_noted(_list_file(path, way, progress), path, way)
    if "," in source:
        return _list_several([part.strip() for part in source.split(",")], way, progress)
    braces = _BRACES.search(source)
    if braces is not None:
        return _list_several(_numbered(source, braces), way, progress)
    raise _nothing_there(source)


def _unused_noted(listing: Listing, path: Path, way: WayIn) -> Listing:
    """The listing with a note on what was said about it in vain."""
    records = any(name.endswith(_RECORD) for name in listing.locations.container_names)
    unused = []
    if way.lst is not None and not records:
        unused.append(f"{way.lst} labels records, but {path.name} has none: it is not used")
    if way.class_index is not None and not is_table(path):
        unused.append(f"{way.class_index} is for a table, which {path.name} is not: it is not used")
    return replace(listing, notes=(*listing.notes, *unused)) if unused else listing


def _numbered(source: str, braces: re.Match[str]) -> list[str]:
    """`set-{000..002}.tar` as three names. Raises DataError for a range that is none."""
    first, last = (int(end) for end in braces.groups())
    if not 0 <= last - first < _MOST_NUMBERED:
        raise DataError(
            "the numbers between braces are no range", got=braces[0],
            expected=f"{{FIRST..LAST}}, at most {_MOST_NUMBERED}",
        )  # fmt: skip
    width = len(braces[1])
    before, after = source[: braces.start()], source[braces.end() :]
    return [f"{before}{number:0{width}d}{after}" for number in range(first, last + 1)]


def _list_several(names: list[str], way: WayIn, progress: Progress | None) -> Listing:
    """Several sources as one; a JSON file among tables numbers their classes."""
    numbering = [name for name in names if name.lower().endswith(".json")]
    if len(numbering) == 1 and len(names) > 1:
        way = replace(way, class_index=numbering[0])
        names = [name for name in names if name not in numbering]
    for name in names:
        if not name:
            raise DataError(
                "a name is empty between commas", got=",".join(names), expected="DATA1,DATA2"
            )
        if not Path(name).expanduser().exists():
            raise _nothing_there(name)
    parts = [list_source(name, progress=progress, way=way) for name in names]
    if len(parts) == 1:
        return parts[0]
    layouts = list(dict.fromkeys(part.layout for part in parts))
    more = f"; and {len(layouts) - _SHOWN} more" if len(layouts) > _SHOWN else ""
    layout = f"{len(parts)} sources: {'; '.join(layouts[:_SHOWN])}{more}"
    return join_listings(parts, layout=layout, name=parts[0].name)


def _list_file(path: Path, way: WayIn, progress: Progress | None) -> Listing:
    suffix = path.suffix.lower()
    if is_array_file(path):
        return list_array_file(path, progress)
    if is_archive(path):
        return list_shards(path) if is_shards(path) else list_archive(path)
    if suffix == _RECORD:
        return _list_records(path, way)
    if suffix == _LIST:
        return list_lst(path, way.folder, lenient=way.lenient)
    if is_table(path):
        return _list_any_table(path, way, progress)
    hint = _HINTS.get(suffix)
    if suffix in SUFFIXES:
        hint = "a single image is for `discern predict`; name the folder of its class folders"
    raise DataError(
        "not a kind of data that can be read",
        where=path, expected=f"a folder, or a file ending in {_FILE_KINDS}", hint=hint,
    )  # fmt: skip


def _list_records(path: Path, way: WayIn) -> Listing:
    lst = None if way.lst is None else Path(way.lst).expanduser()
    return list_records(path, lst, on_damage="stop" if way.skip_damaged else "error")


def _list_any_table(path: Path, way: WayIn, progress: Progress | None) -> Listing:
    if is_manifest(path):
        return list_manifest(path, progress)
    if way.label is None and is_headless(path):
        return list_headless(path, root=way.folder, lenient=way.lenient)
    index = None if way.class_index is None else Path(way.class_index).expanduser()
    return list_table(
        path,
        way.label,
        root=way.folder,
        class_index=index,
        needs_labels=way.needs_labels,
        lenient=way.lenient,
    )


def _list_folder(path: Path, way: WayIn, progress: Progress | None) -> Listing:
    refuse_unfinished(path)
    tree = walk_images(path)
    if not tree.paths:
        return _list_folder_without_images(path, tree, way, progress)
    table = list_table_folder(
        path, tree, way.label, needs_labels=way.needs_labels, lenient=way.lenient
    )
    if table is not None:
        return table
    listing = mark_grown_folder(list_folder(path, tree, lenient=way.lenient))
    beside = [entry.name for entry in sorted(path.iterdir()) if _is_container(entry)]
    if beside:
        note = f"beside the images, not read: {', '.join(beside[:5])}"
        listing = replace(listing, notes=(*listing.notes, note))
    return listing


def _is_container(path: Path) -> bool:
    if path.name.startswith(".") or not path.is_file():
        return False
    return is_table(path) or is_archive(path) or path.suffix.lower() in (_RECORD, NPZ_SUFFIX)


def _list_folder_without_images(
    path: Path, tree: ImageTree, way: WayIn, progress: Progress | None
) -> Listing:
    if is_shards(path):
        return list_shards(path)
    if is_records(path):
        return _list_records(path, way)
    splits = _list_split_folders(path, way, progress)
    if splits is not None:
        return splits
    arrays = list_array_folder(path, progress)
    if arrays is not None:
        return arrays
    inside = [entry for entry in sorted(path.iterdir()) if _is_container(entry)]
    packed = [entry for entry in inside if not is_table(entry)]
    if len(packed or inside) == 1:
        (chosen,) = packed or inside
        other = [entry.name for entry in inside if entry != chosen]
        notes = (f"beside {chosen.name}, not read: {', '.join(other[:5])}",) if other else ()
        listing = _list_file(chosen, way, progress)
        return replace(listing, notes=(*listing.notes, *notes))
    there = sorted(entry.name for entry in path.iterdir())
    raise DataError(
        "there are no images in the folder",
        where=path,
        got="; ".join([*link_notes(tree.faults)[:3], ", ".join(there[:10])]).strip("; ")
        or "an empty folder",
        expected=_FOLDER_KINDS,
        hint=f"name one of them: {(packed or inside)[0]}" if inside else None,
    )


def _list_split_folders(path: Path, way: WayIn, progress: Progress | None) -> Listing | None:
    """Folders train, val and test without image files: shards or records; None for others."""
    folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir()]
    folders = [folder for folder in folders if not folder.name.startswith(".")]
    codes = [SPLIT_FOLDERS.get(folder.name.casefold()) for folder in folders]
    if not folders or None in codes or len(set(codes)) < len(codes):
        return None
    parts = [
        in_split(_list_folder(folder, way, progress), code)
        for folder, code in zip(folders, codes, strict=True)
        if code is not None
    ]
    names = ", ".join(folder.name for folder in folders)
    layout = f"folders {names}: {'; '.join(dict.fromkeys(part.layout for part in parts))}"
    return join_listings(parts, layout=layout, name=path.absolute().name or "data")


def list_manifest(path: Path, progress: Progress | None = None) -> Listing:
    """The images of a manifest file. Raises DataError."""
    manifest = read_manifest(path)
    heads = tuple(
        LabelColumn(
            name=head.name,
            kind=head.kind,
            classes=head.classes,
            targets=head.targets,
            ordered=True,
        )
        for head in manifest.heads
    )
    return Listing(
        locations=manifest.locations,
        heads=heads,
        split=manifest.split,
        root=manifest.root,
        layout=f"manifest of {manifest.layout}",
        name=path.stem,
        fold=manifest.fold,
        group=manifest.group,
        weight=manifest.weight,
        origin=manifest.origin,
        confidence=manifest.confidence,
        numbers=manifest.numbers,
        arrays=_arrays(manifest, progress),
    )


def _arrays(manifest: Manifest, progress: Progress | None) -> dict[str, Pixels | OwnImages]:
    """The pixels of a manifest whose images are arrays: they are not in its file."""
    arrays: dict[str, Pixels | OwnImages] = {}
    for name in manifest.locations.container_names:
        built_in = name.partition("/")[0]
        origin = built_in if built_in in BUILT_IN else name.rpartition("#")[0]
        origin = name if is_own_source(name) else origin
        known = origin in BUILT_IN or is_own_source(origin) or Path(origin).exists()
        if origin and name not in arrays and known:
            arrays |= list_source(origin, progress=progress).arrays
    return {name: arrays[name] for name in manifest.locations.container_names if name in arrays}


def _nothing_there(source: str) -> DataError:
    if "://" in source:
        return DataError(
            "data is read from files, not from addresses", got=source,
            hint=f"fetch it first: discern data get {source}",
        )  # fmt: skip
    parent = Path(source).parent
    beside = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    near = nearest_names(source, BUILT_IN) + [
        str(parent / name) for name in nearest_names(Path(source).name, beside)
    ]
    return DataError(
        "there is no such data",
        got=source,
        expected=f"a folder, table or archive, or one of {', '.join(BUILT_IN)}",
        hint="did you mean " + " or ".join(f"'{name}'" for name in near[:3]) + "?"
        if near
        else None,
    )
