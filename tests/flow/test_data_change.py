"""`discern data split|merge|relabel|list`, with Catalyst's and im2rec's spellings."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from discern_process import QUICK, discern, make_images, run_record, write_table

# ---- Catalyst's two commands, with only the program name changed (features 6.4) ----

NAMED = [
    (tag, f"{tag}/{n:02d}.jpg") for tag, count in (("ant", 5), ("bee", 7)) for n in range(count)
]


@pytest.fixture(scope="module")
def catalyst(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `clean/CLASS/image`, scanned with the guide's first command."""
    root = tmp_path_factory.mktemp("catalyst")
    make_images(root / "clean", ("ant",), each=5)
    make_images(root / "clean", ("bee",), each=7)
    ended = discern(
        "data", "scan", root / "clean", "--out-dataset", root / "dataset_raw.csv",
        "--out-labeling", root / "tag2class.json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    assert ended.stdout.splitlines()[0].split() == ["Num", "classes:", "2"]
    return root


@pytest.mark.feature("CA-02", "PP-21")
def test_table_and_class_numbers_are_catalysts_byte_for_byte(catalyst: Path) -> None:
    expected = "tag,filepath\n" + "".join(f"{tag},{path}\n" for tag, path in NAMED)
    assert expected == (catalyst / "dataset_raw.csv").read_text()
    numbers = (catalyst / "tag2class.json").read_text()
    assert '{\n    "ant": 0,\n    "bee": 1\n}' == numbers.rstrip("\n")


def _split(folder: Path, out: str, *flags: str) -> dict[str, list[list[str]]]:
    """The four tables that `data split --in-csv` makes."""
    ended = discern(
        "data", "split", "--in-csv", folder / "dataset_raw.csv", "--tag2class",
        folder / "tag2class.json", "--tag-column", "tag", "--class-column", "class",
        "--out-csv", folder / f"{out}.csv", *flags, "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    tables = {}
    for part in ("", "_train", "_valid", "_infer"):
        text = (folder / f"{out}{part}.csv").read_text()
        header, *rows = [line.split(",") for line in text.splitlines()]
        assert ["tag", "filepath", "class", "fold"] == header
        assert len(rows) == ended.object["files"][str(folder / f"{out}{part}.csv")]
        tables[part] = rows
    return tables


@pytest.mark.feature("CA-03", "PP-21")
def test_folds_are_stratified_and_written_in_four_tables(catalyst: Path) -> None:
    whole = _split(catalyst, "a", "--n-folds", "5", "--train-folds", "0,1,2,3")
    assert sorted(NAMED) == sorted((tag, path) for tag, path, *_ in whole[""])
    assert {("ant", "0"), ("bee", "1")} == {(tag, number) for tag, _, number, _ in whole[""]}
    for tag, count in (("ant", 5), ("bee", 7)):
        sizes = Counter(fold for name, *_, fold in whole[""] if name == tag)
        assert set("01234") == set(sizes)
        assert all(count // 5 <= size <= count // 5 + 1 for size in sizes.values())
    assert [row for row in whole[""] if row[3] in "0123"] == whole["_train"]
    assert [row for row in whole[""] if row[3] == "4"] == whole["_valid"]
    assert [] == whole["_infer"]
    _split(catalyst, "b", "--num-folds", "5", "--train-folds", "0,1,2,3", "--seed", "42")
    for part in ("", "_train", "_valid", "_infer"):
        same = [(catalyst / f"{name}{part}.csv").read_bytes() for name in "ab"]
        assert same[0] == same[1]
    other = _split(catalyst, "c", "--n-folds", "5", "--train-folds", "0,1,2,3", "--seed", "7")
    assert whole[""] != other[""]


@pytest.mark.feature("CA-03")
def test_folds_for_prediction_are_what_is_left(catalyst: Path) -> None:
    tables = _split(
        catalyst, "d", "--n-folds", "5", "--train-folds", "0,1,2", "--valid-folds", "3"
    )  # fmt: skip
    assert [row for row in tables[""] if row[3] == "3"] == tables["_valid"]
    assert [row for row in tables[""] if row[3] == "4"] == tables["_infer"]


@pytest.mark.feature("CA-03")
def test_tables_are_catalysts_byte_for_byte(catalyst: Path) -> None:
    from sklearn.model_selection import StratifiedKFold  # which is what Catalyst calls

    _split(catalyst, "e", "--n-folds", "5", "--train-folds", "0,1,2,3")
    lines = [f"{tag},{path},{int(tag == 'bee')}," for tag, path in NAMED]
    folds = StratifiedKFold(5, shuffle=True, random_state=42)
    for number, (_, held) in enumerate(folds.split(NAMED, [tag for tag, _ in NAMED])):
        for place in held:
            lines[place] += str(number)
    for part, kept in (("", "01234"), ("_train", "0123"), ("_valid", "4"), ("_infer", "")):
        expected = ["tag,filepath,class,fold", *(line for line in lines if line[-1] in kept)]
        found = (catalyst / f"e{part}.csv").read_bytes()
        assert "".join(f"{line}\n" for line in expected).encode() == found


def test_table_that_cannot_be_split_leaves_nothing(catalyst: Path) -> None:
    for flags, what, hint in (
        (("--tag-column", "tagg"), "the table has no column 'tagg'", "'tag'"),
        (("--tag-column", "tag", "--nfolds", "5"), "no such flag: --nfolds", "'--n-folds'"),
    ):
        ended = discern(
            "data", "split", "--in-csv", catalyst / "dataset_raw.csv", "--tag2class",
            catalyst / "tag2class.json", "--class-column", "class", "--train-folds", "0,1",
            "--out-csv", catalyst / "never.csv", *flags, "--json",
        )  # fmt: skip
        assert ended.code in (1, 2)
        assert what == ended.error["what"]
        assert hint in (ended.error["hint"] or "")
    assert not list(catalyst.glob("*never*"))


def test_catalysts_tables_train(catalyst: Path, tmp_path: Path) -> None:
    _split(catalyst, "f", "--n-folds", "5", "--train-folds", "0,1,2,3")
    ended = discern(
        "train", catalyst / "f_train.csv", "--val", catalyst / "f_valid.csv",
        "--root", catalyst / "clean", *QUICK, "--json", "--runs", tmp_path / "runs",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    held = len((catalyst / "f_valid.csv").read_text().splitlines()) - 1
    assert ("val", held) == (ended.object["metrics"]["split"], ended.object["metrics"]["count"])


# ---- our own split ----


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 ants, 20 bees, 4 wasps; two bees have the same bytes."""
    root = tmp_path_factory.mktemp("split") / "pets"
    for name, each in (("ant", 40), ("bee", 20), ("wasp", 4)):
        make_images(root, (name,), each=each, size=(12, 12))
    for name in ("bee", "wasp"):  # else they are ants again: the color is the label's place
        for path in (root / name).glob("*.jpg"):
            content = path.read_bytes()
            path.write_bytes(
                content[:-2] + b"\xff\xfe\x00\x06" + name[:4].ljust(4).encode() + b"\xff\xd9"
            )
    (root / "bee" / "01.jpg").write_bytes((root / "bee" / "00.jpg").read_bytes())
    return root


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a manifest in CSV; its first line holds the rest."""
    first, *lines = path.read_text().splitlines()
    assert first.startswith("#discern: ")
    return list(csv.DictReader(lines))


def test_shares_are_of_each_class_and_training_keeps_them(pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.csv"
    command = ("data", "split", pets, "--min-per-class", "10", "--out", out)
    ended = discern(*command, "--val", "0.2", "--test", "0.1", "--seed", "3", "--json")
    assert 0 == ended.code, ended.stderr
    counts = {
        "train": {"ant": 28, "bee": 14}, "val": {"ant": 8, "bee": 4}, "test": {"ant": 4, "bee": 2},
    }  # fmt: skip
    assert counts == ended.object["counts"]
    assert ({"wasp": 4}, 60) == (ended.object["dropped"], ended.object["images"])
    rows = _rows(out)
    found = {s: dict(Counter(r["label"] for r in rows if r["split"] == s)) for s in counts}
    assert counts == found
    same = [row["split"] for row in rows if row["path"] in ("bee/00.jpg", "bee/01.jpg")]
    assert 1 == len(set(same))
    again = tmp_path / "again.csv"
    discern(*command[:-1], again, "--val", "0.2", "--test", "0.1", "--seed", "3")
    assert out.read_bytes() == again.read_bytes()
    trained = discern("train", out, *QUICK, "--json", "--runs", tmp_path / "runs")
    assert 0 == trained.code, trained.stderr
    assert counts == run_record(trained)["split"]["counts"]


def test_counts_per_class_are_exact(pets: Path, tmp_path: Path) -> None:
    ended = discern(
        "data", "split", pets, "--min-per-class", "20", "--val-per-class", "5",
        "--out", tmp_path / "s.parquet", "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    counts = {"train": {"ant": 35, "bee": 15}, "val": {"ant": 5, "bee": 5}}
    assert (counts, {"wasp": 4}) == (ended.object["counts"], ended.object["dropped"])


@pytest.mark.feature("CA-04")
def test_no_group_is_in_two_folds(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", each=12, size=(12, 12))
    rows = [
        {"path": f"{name}/{n:02d}.jpg", "label": name, "group": f"{name}{n // 3}"}
        for name in ("ant", "bee")
        for n in range(12)
    ]
    table = write_table(tmp_path / "pets" / "table.csv", rows)
    out = tmp_path / "folds.csv"
    ended = discern(
        "data", "split", table, "--folds", "4", "--group-by", "group", "--out", out, "--json"
    )
    assert 0 == ended.code, ended.stderr
    found: dict[str, set[str]] = {}
    for row in _rows(out):
        found.setdefault(row["group"], set()).add(row["fold"])
    assert 8 == len(found)
    assert all(1 == len(folds) for folds in found.values())
    assert {"0", "1", "2", "3"} == set().union(*found.values())


@pytest.mark.parametrize(
    ("flags", "code", "what"),
    [
        (("--val", "0.9", "--test", "0.9"), 2, "the shares of val and test are out of range"),
        (("--folds", "3", "--val", "0.2"), 2, "by shares, by counts per class or by folds"),
        (("--min-per-class", "99"), 1, "no class has enough images"),
        (("--out", "split.xls"), 2, "no table format has this suffix"),
    ],
)
def test_split_that_cannot_be_is_refused(
    pets: Path, tmp_path: Path, flags: tuple[str, ...], code: int, what: str
) -> None:
    ended = discern("data", "split", pets, "--out", "split.csv", *flags, "--json", cwd=tmp_path)
    assert code == ended.code
    assert what in (ended.error["what"] or "")
    assert [] == list(tmp_path.iterdir())


# ---- merge ----


def test_merged_sets_join_equal_names_or_keep_them_apart(tmp_path: Path) -> None:
    make_images(tmp_path / "one", each=4)
    make_images(tmp_path / "two", ("bee", "wasp"), each=3, first=20)
    (tmp_path / "two/bee/20.jpg").write_bytes((tmp_path / "one/bee/00.jpg").read_bytes())
    sets = ("one", "two")
    ended = discern("data", "merge", *sets, "--out", "m.jsonl", "--json", cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    assert (14, ["ant", "bee", "wasp"]) == (ended.object["images"], ended.object["classes"])
    assert (["bee"], 1, 0) == tuple(
        ended.object[key] for key in ("shared", "duplicates", "dropped")
    )
    read = discern("data", "scan", "m.jsonl", "--json", cwd=tmp_path)
    assert {"ant": 4, "bee": 7, "wasp": 3} == read.object["classes"]
    apart = discern(
        "data", "merge", *sets, "--classes", "prefix", "--out", "p.parquet", "--json", cwd=tmp_path
    )
    assert ["one-ant", "one-bee", "two-bee", "two-wasp"] == apart.object["classes"]
    less = discern(
        "data", "merge", *sets, "--drop-duplicates", "--out", "d.csv", "--json", cwd=tmp_path
    )
    assert (13, 1) == (less.object["images"], less.object["dropped"])


def test_merge_of_one_set_or_by_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    make_images(tmp_path / "one", each=3)
    ended = discern("data", "merge", "one", "--out", "m.csv", "--json", cwd=tmp_path)
    assert "there is nothing to merge" == ended.error["what"]
    ended = discern(
        "data", "merge", "one", "one", "--classes", "join", "--out", "m.csv", "--json", cwd=tmp_path
    )
    assert (2, "union, prefix") == (ended.code, ended.error["expected"])
    assert ["one"] == [path.name for path in tmp_path.iterdir()]


# ---- relabel ----


@pytest.mark.feature("MX-35")
def test_swapped_labels_in_a_list_change_the_data_but_no_image(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", each=4)
    assert 0 == discern("data", "list", "pets", "pets", "--recursive", cwd=tmp_path).code
    packed = discern("data", "pack", "pets", "--to", "rec", "--out", "rec", cwd=tmp_path)
    assert 0 == packed.code, packed.stderr
    before = (tmp_path / "rec" / "data.rec").read_bytes()
    lines = (tmp_path / "rec" / "data.lst").read_text().splitlines()
    numbers, labels, names = zip(*(line.split("\t") for line in lines), strict=True)
    first, last = (labels.index(f"{k}.000000") for k in (0, 1))
    swapped = list(labels)
    swapped[first], swapped[last] = labels[last], labels[first]
    rows = zip(numbers, swapped, names, strict=True)
    (tmp_path / "new.lst").write_text("".join("\t".join(row) + "\n" for row in rows))
    for command in (
        ("scan", "rec/data.rec", "--lst", "new.lst", "--out", "by_scan.csv"),
        ("relabel", "rec/data.rec", "new.lst", "--out", "by_relabel.csv"),
    ):
        ended = discern("data", *command, "--json", cwd=tmp_path)
        assert 0 == ended.code, ended.stderr
    assert 2 == ended.object["changed"]
    wanted = [("ant", "bee")[int(float(label))] for label in swapped]
    for name in ("by_scan.csv", "by_relabel.csv"):
        assert wanted == [row["label"] for row in _rows(tmp_path / name)]
    assert before == (tmp_path / "rec" / "data.rec").read_bytes()


def test_new_labels_are_counted_and_taken_back(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", each=4)
    write_table(tmp_path / "new.csv", [{"path": "ant/00.jpg", "label": "bee"},
                                       {"path": "ant/01.jpg", "label": "ant"}])  # fmt: skip
    ended = discern(
        "data", "relabel", "pets", "new.csv", "--out", "r.csv", "--overlay", "changes.jsonl",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    assert (2, 1, 1) == tuple(ended.object[key] for key in ("rows", "changed", "same"))
    assert {"ant -> bee": 1} == ended.object["moves"]
    changed = [r["path"] for r in _rows(tmp_path / "r.csv") if r["path"][:3] != r["label"]]
    assert ["ant/00.jpg"] == changed
    back = discern("data", "relabel", "r.csv", "changes.jsonl", "--reverse", "--out", "b.csv",
                   "--json", cwd=tmp_path)  # fmt: skip
    assert (0, 1) == (back.code, back.object["changed"]), back.stderr
    assert all(Path(row["path"]).parent.name == row["label"] for row in _rows(tmp_path / "b.csv"))


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"path": "ant/00.jpg", "label": "bea"}, "1 classes of the table are not in the data"),
        ({"path": "ant/99.jpg", "label": "bee"}, "1 of 1 rows name no image of the data"),
    ],
)
def test_labels_of_nothing_or_of_no_class_are_refused(
    tmp_path: Path, row: dict[str, object], what: str
) -> None:
    make_images(tmp_path / "pets", each=3)
    table = write_table(tmp_path / "new.csv", [row])
    ended = discern("data", "relabel", "pets", table, "--out", "r.csv", "--json", cwd=tmp_path)
    assert (1, what) == (ended.code, ended.error["what"])
    assert str(table) in (ended.error["where"] or "")
    assert ended.error["hint"]
    assert not (tmp_path / "r.csv").exists()


# ---- lists ----


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nested")
    make_images(root / "pets", ("ant", "ant/red", "bee"), each=4, size=(8, 8))
    return root


def _im2rec(root: Path) -> list[tuple[int, str]]:
    """(class, path) of each image, in the order of im2rec's walk (features 6.3)."""
    names = [p.relative_to(root).as_posix() for p in root.rglob("*.jpg")]
    folders = sorted({Path(name).parent.as_posix() for name in names})
    return [
        (number, name)
        for number, folder in enumerate(folders)
        for name in sorted(names)
        if Path(name).parent.as_posix() == folder
    ]


@pytest.mark.feature("MX-50")
def test_list_is_im2recs_byte_for_byte(nested: Path, tmp_path: Path) -> None:
    ended = discern("data", "list", tmp_path / "p", nested / "pets", "--recursive", "--json")
    assert 0 == ended.code, ended.stderr
    assert (12, ["ant", "ant/red", "bee"]) == (ended.object["images"], ended.object["classes"])
    found = [(n, label, name) for n, (label, name) in enumerate(_im2rec(nested / "pets"))]
    random.Random(100).shuffle(found)
    expected = "".join(f"{n}\t{label}.000000\t{name}\n" for n, label, name in found)
    assert expected == (tmp_path / "p.lst").read_text()
    plain = discern(
        "data", "list", tmp_path / "q", nested / "pets", "--recursive", "--no-shuffle",
        "--exts", ".jpg",
    )  # fmt: skip
    assert 0 == plain.code, plain.stderr
    expected = "".join(f"{n}\t{label}.000000\t{name}\n" for n, label, name in sorted(found))
    assert expected == (tmp_path / "q.lst").read_text()


@pytest.mark.feature("MX-51")
def test_names_of_lists_tell_split_and_chunk(nested: Path, tmp_path: Path) -> None:
    ended = discern(
        "data", "list", tmp_path / "p", nested / "pets", "--recursive", "--chunks", "2",
        "--train-ratio", "0.5", "--test-ratio", "0.25", "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    names = {f"p_{chunk}_{split}.lst" for chunk in (0, 1) for split in ("train", "val", "test")}
    assert names == {path.name for path in tmp_path.glob("*.lst")}
    rows = [(n, label, name) for n, (label, name) in enumerate(_im2rec(nested / "pets"))]
    random.Random(100).shuffle(rows)
    for chunk in (0, 1):  # test, then train, then val, of each chunk
        part = rows[6 * chunk : 6 * chunk + 6]
        for split, some in (("test", part[:1]), ("train", part[1:4]), ("val", part[4:])):
            expected = "".join(f"{n}\t{label}.000000\t{name}\n" for n, label, name in some)
            assert expected == (tmp_path / f"p_{chunk}_{split}.lst").read_text()


def test_list_trains_with_the_folder_of_its_images(nested: Path, tmp_path: Path) -> None:
    assert 0 == discern("data", "list", tmp_path / "p", nested / "pets", "--recursive").code
    ended = discern(
        "train", tmp_path / "p.lst", "--root", nested / "pets", *QUICK, "--json",
        "--runs", tmp_path / "runs",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    assert {"ant", "ant/red", "bee"} == set(run_record(ended)["split"]["counts"]["train"])


def test_list_of_nothing_is_refused_and_the_flag_named(nested: Path, tmp_path: Path) -> None:
    ended = discern("data", "list", tmp_path / "p", nested / "pets", "--json")
    assert (1, str(nested / "pets")) == (ended.code, ended.error["where"])
    assert "--recursive" in (ended.error["hint"] or "")
    ended = discern(
        "data", "list", tmp_path / "p", nested / "pets", "--recursive",
        "--train-ratio", "0.9", "--test-ratio", "0.3", "--json",
    )  # fmt: skip
    assert (2, "train 0.9, test 0.3") == (ended.code, ended.error["got"])
    assert [] == list(tmp_path.iterdir())


def test_manifest_holds_what_was_asked(pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "k.jsonl"
    ended = discern("data", "split", pets, "--folds", "4", "--out", out, "--json")
    assert 0 == ended.code, ended.stderr
    rows = [row for row in map(json.loads, out.read_text().splitlines()) if "path" in row]
    assert 64 == len(rows)
    for fold in range(4):
        inside = Counter(row["label"] for row in rows if row["fold"] == fold)
        assert {"ant": 10, "bee": 5, "wasp": 1} == dict(inside)


def test_images_of_several_labels_are_counted_once(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", (".",), each=20)
    cells = ("red", "red;wet", "wet", "dry;red;wet")
    rows = [{"path": f"pets/{n:02d}.jpg", "tags": cells[n % 4]} for n in range(20)]
    write_table(tmp_path / "table.csv", rows)
    command = ("data", "split", "table.csv", "--label", "tags", "--label-delimiter", ";")
    ended = discern(*command, "--out", "split.csv", cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    told = {
        line.split()[0]: int(line.split()[1])
        for line in ended.stdout.splitlines()
        if "in 3" in line
    }
    found = Counter(row["split"] for row in _rows(tmp_path / "split.csv"))
    assert (20, dict(found)) == (sum(told.values()), told)


def test_labels_that_could_not_be_taken_back_are_not_given(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", each=3)
    write_table(tmp_path / "new.csv", [{"path": "ant/00.jpg", "label": "bee"}])
    command = ("data", "relabel", "pets", "new.csv", "--out", "r.csv", "--overlay", "changes.json")
    ended = discern(*command, "--json", cwd=tmp_path)
    assert (1, "changes.json") == (ended.code, ended.error["where"])
    assert not (tmp_path / "r.csv").exists()
