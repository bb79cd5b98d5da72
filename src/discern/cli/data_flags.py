"""The flags of the `discern data` commands, by what they set: a way in, a split, a pack, a check.

As in `flags`, one static table: a command takes the flags that name it, and gets those that were
given by their keys, which are the fields of the function's own options. Their defaults stand there.
"""

from __future__ import annotations

from typing import Any

from discern.base.errors import ConfigError
from discern.cli.flags import Flag, Kind
from discern.cli.options import Pairs

_ALL = ("scan", "check", "stats", "split", "relabel", "pack")
_PARTS = ("scan", "check", "stats", "pack")
_READERS = (*_ALL, "merge")


def _flag(
    name: str, key: str, kind: Kind, text: str, commands: tuple[str, ...], *aliases: str
) -> Flag:
    return Flag(name, key, kind, text, aliases, "Options", commands, plain=True)


WAY_IN = (
    _flag("--val", "val", "text", "validation data, of any kind", _PARTS),
    _flag("--test", "test", "text", "test data, of any kind", _PARTS),
    _flag("--root", "root", "text", "folder of a built-in set's files, or of a .lst", _ALL),
    _flag("--label", "label", "names", "label column; may be given again", _ALL),
    _flag(
        "--label-delimiter", "label_delimiter", "text", "between the labels of a --label cell", _ALL
    ),
    _flag("--lst", "lst", "text", "a .lst whose labels replace those of a .rec", _ALL),
    _flag("--tag2class", "class_index", "text", "JSON of class names and numbers", _ALL),
    _flag(
        "--on-bad-image", "on_bad_image", "text", "error or skip: counted and named",
        ("stats", "split", "relabel", "pack", "merge"),
    ),
    _flag(
        "--workers", "threads", "int", "threads; default: one per core", _READERS,
        "-j", "--num-workers", "--num-thread",
    ),
)  # fmt: skip

CATALYST_SCAN = (
    _flag("--in-dir", "in_dirs", "text", "Catalyst: DATA, folders by commas", ("scan",)),
    _flag("--in-csv", "in_csv", "text", "Catalyst: DATA, a table", ("scan",)),
    _flag("--out-dataset", "out_dataset", "text", "Catalyst: table to write", ("scan",)),
    _flag("--out-labeling", "out_labeling", "text", "Catalyst: JSON to write", ("scan",)),
    _flag("--tag-column", "tag_column", "text", "Catalyst: class column", ("scan",)),
    _flag("--tag-delim", "tag_delim", "text", "Catalyst: a row for each tag", ("scan",)),
    _flag("--recursive", "recursive", "switch", "Catalyst: look below class folders", ("scan",)),
)

CATALYST_SPLIT = (
    _flag("--in-csv", "in_csv", "text", "Catalyst: table to split", ("split",)),
    _flag("--out-csv", "out_csv", "text", "Catalyst: X.csv, X_train.csv, ...", ("split",)),
    _flag("--tag-column", "tag_column", "text", "Catalyst: column of tags", ("split",)),
    _flag("--class-column", "class_column", "text", "Catalyst: column of numbers", ("split",)),
    _flag("--train-folds", "train_folds", "text", "Catalyst: such as 0,1,2,3", ("split",), "-t"),
)

SPLIT = (
    _flag("--val", "val", "float", "share of each class; default 0.15", ("split",)),
    _flag("--test", "test", "float", "share of each class; default 0.15", ("split",)),
    _flag("--stratify", "stratify", "switch", "shares of each class, not of all", ("split",)),
    _flag("--train-per-class", "train_per_class", "int", "images of each class", ("split",)),
    _flag("--val-per-class", "val_per_class", "int", "images of each class", ("split",)),
    _flag("--test-per-class", "test_per_class", "int", "images of each class", ("split",)),
    _flag("--min-per-class", "min_per_class", "int", "drop smaller classes", ("split",)),
    _flag("--folds", "folds", "int", "number of folds", ("split",), "--n-folds", "--num-folds"),
    _flag("--val-folds", "val_folds", "text", "such as 4", ("split",), "--valid-folds", "-v"),
    _flag("--test-folds", "test_folds", "text", "such as 3", ("split",), "--infer-folds", "-i"),
    _flag("--group-by", "group_by", "text", "group, folder or label column kept whole", ("split",)),
    _flag("--keep-duplicates", "keep_duplicates", "switch", "equal bytes together", ("split",)),
    _flag("--keep", "keep", "names", "a split that stays as it is", ("split",)),
    _flag("--seed", "seed", "int", "default 0; with --in-csv 42", ("split",)),
)

CHECK = (
    _flag("--near", "near", "switch", "look for near duplicates", ("check",)),
    _flag("--near-distance", "near_distance", "int", "bits of 64 that may differ", ("check",)),
    _flag("--embeddings", "embeddings", "text", ".npy, a row for each image", ("check",)),
    _flag("--cosine", "cosine", "float", "embeddings this near are duplicates", ("check",)),
)

PACK = (
    _flag("--recipe", "recipe", "text", "caltech-256, imagenet-val or imagenet-11k", ("pack",)),
    _flag("--to", "format", "text", "shards, rec or folder", ("pack",), "--format"),
    _flag("--name", "name", "text", "base name; default: the split's", ("pack",), "--prefix"),
    _flag("--resize", "resize", "int", "short side in pixels, 0 leaves it", ("pack",)),
    _flag("--max-size", "max_size", "int", "longest side in pixels", ("pack",)),
    _flag("--center-crop", "center_crop", "switch", "the middle square", ("pack",)),
    _flag("--encoding", "encoding", "text", "jpg or png", ("pack",)),
    _flag("--quality", "quality", "int", "of jpg, 1 to 100; default 95", ("pack",)),
    _flag("--compress-level", "compress_level", "int", "of png, 0 to 9", ("pack",)),
    _flag("--color", "color", "int", "1 RGB, 0 gray, -1 as the file has it", ("pack",)),
    _flag("--grayscale", "grayscale", "switch", "as --color 0", ("pack",)),
    _flag("--clear-exif", "clear_exif", "switch", "of images encoded anew", ("pack",)),
    _flag("--pass-through", "pass_through", "switch", "every byte as it is", ("pack",)),
    _flag("--pack-label", "pack_label", "switch", "all labels, not the first only", ("pack",)),
    _flag("--chunks", "chunks", "int", "files to cut into", ("pack",)),
    _flag("--train-ratio", "train_ratio", "float", "0 to 1", ("pack",)),
    _flag("--test-ratio", "test_ratio", "float", "0 to 1", ("pack",)),
    _flag("--shuffle", "shuffle", "switch", "the order", ("pack",)),
    _flag("--seed", "seed", "int", "of the order; default 100", ("pack",)),
    _flag("--shard-bytes", "shard_bytes", "int", "largest shard", ("pack",)),
    _flag("--shard-images", "shard_images", "int", "most images of a shard", ("pack",)),
)

RELABEL = (
    _flag("--head", "head", "text", "label column of the data to change", ("relabel",)),
    _flag("--column", "column", "text", "column of the new labels", ("relabel",)),
    _flag("--key", "key", "text", "column that names the images", ("relabel",)),
    _flag("--delimiter", "delimiter", "text", "between the labels of a cell", ("relabel",)),
    _flag("--new-classes", "new_classes", "switch", "allow unknown classes", ("relabel",)),
    _flag("--clear-blank", "clear_blank", "switch", "empty cells clear labels", ("relabel",)),
)

MERGE = (
    _flag("--classes", "classes", "text", "union or prefix (kept apart)", ("merge",)),
    _flag("--names", "names", "text", "of the sets, comma separated", ("merge",)),
    _flag("--drop-duplicates", "drop_duplicates", "switch", "leave repeats out", ("merge",)),
)

LISTS = (
    _flag("--recursive", "recursive", "switch", "every folder of images is a class", ("list",)),
    _flag("--train-ratio", "train_ratio", "float", "0 to 1", ("list",)),
    _flag("--test-ratio", "test_ratio", "float", "0 to 1", ("list",)),
    _flag("--chunks", "chunks", "int", "lists to cut into", ("list",)),
    _flag("--exts", "exts", "names", "an ending; may be given again", ("list",)),
    _flag("--shuffle", "shuffle", "switch", "seeded with 100, as im2rec's", ("list",)),
)

_GROUPS = (WAY_IN, CATALYST_SCAN, CATALYST_SPLIT, SPLIT, CHECK, PACK, RELABEL, MERGE, LISTS)


def data_flags_of(command: str) -> list[Flag]:
    """The flags that `discern data COMMAND` takes beside its own."""
    return [flag for group in _GROUPS for flag in group if command in flag.commands]


def chosen(flags: Pairs, command: str, *groups: tuple[Flag, ...]) -> dict[str, Any]:
    """What was given for the flags of `groups` that `command` takes, by key."""
    mine = {f.name: f.key for group in groups for f in group if command in f.commands}
    return {key: value for name, key, value in flags if mine.get(name) == key}


def way_in(flags: Pairs, command: str) -> dict[str, Any]:
    """What was given about how the data is read; one label column stands by itself."""
    given = chosen(flags, command, WAY_IN)
    if "label" in given and len(given["label"]) == 1:
        given["label"] = given["label"][0]
    delimiter = given.pop("label_delimiter", None)
    if delimiter is not None:
        if "label" not in given:
            raise ConfigError(
                "a delimiter needs its column", where="--label-delimiter", got=delimiter,
                expected="--label NAME --label-delimiter ';'",
            )  # fmt: skip
        names = [given["label"]] if isinstance(given["label"], str) else given["label"]
        given["label"] = {name: {"kind": "multi", "delimiter": delimiter} for name in names}
    rule = given.get("on_bad_image", "error")
    if rule not in ("error", "skip"):
        raise ConfigError(
            "no such rule", where="--on-bad-image", got=rule, expected="error or skip"
        )
    return given
