"""Lists as im2rec makes them: a fixture tree whose files are worked out by hand."""

from pathlib import Path

import pytest

from discern.base.errors import ConfigError, DataError
from discern.data.image_lists import make_lists
from discern.data.record_files import list_lst

# Walk order: a folder's files by name, then its folders by name; upper case before lower.
TREE = (
    "b/2.jpg",
    "b/1.PNG",
    "b/deep/9.jpeg",
    "b/notes.txt",
    "Zoo/x y.jpg",
    "a/empty.gif",
    "b/deep/10.jpeg",
)
WALKED = (
    b"0\t0.000000\tZoo/x y.jpg\n",
    b"1\t1.000000\tb/1.PNG\n",
    b"2\t1.000000\tb/2.jpg\n",
    b"3\t2.000000\tb/deep/10.jpeg\n",
    b"4\t2.000000\tb/deep/9.jpeg\n",
)


def touch(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened")
    return root


def names_in(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def tree(tmp_path):
    return touch(tmp_path / "root", TREE)


@pytest.mark.feature("MX-50")
def test_list_in_walk_order_is_golden(tree, tmp_path):
    report = make_lists(tmp_path / "out" / "all", tree, recursive=True, shuffle=False)
    assert b"".join(WALKED) == (tmp_path / "out" / "all.lst").read_bytes()
    assert b"Zoo\nb\nb/deep\n" == (tmp_path / "out" / "all_classes.txt").read_bytes()
    assert {"all.lst", "all_classes.txt"} == names_in(tmp_path / "out")
    prefix = str(tmp_path / "out" / "all")
    assert {
        "files": {f"{prefix}.lst": 5},
        "images": 5,
        "classes": ["Zoo", "b", "b/deep"],
        "classes_file": f"{prefix}_classes.txt",
        "notes": [],
    } == report.record()


@pytest.mark.feature("MX-50")
def test_list_is_shuffled_with_seed_100(tree, tmp_path):
    make_lists(tmp_path / "all", tree, recursive=True)
    # random.seed(100); random.shuffle: its draws below 5, 4, 3, 2 are 1, 3, 1, 0, so that places
    # 4 and 1, 3 and 3, 2 and 1, 1 and 0 are exchanged in turn.
    order = [2, 0, 4, 3, 1]
    assert b"".join(WALKED[place] for place in order) == (tmp_path / "all.lst").read_bytes()


@pytest.mark.feature("MX-50")
def test_not_recursive_takes_only_the_root_with_label_0(tree, tmp_path):
    touch(tree, ["2.jpg", "10.jpg"])
    report = make_lists(tmp_path / "top", tree, shuffle=False)
    assert b"0\t0.000000\t10.jpg\n1\t0.000000\t2.jpg\n" == (tmp_path / "top.lst").read_bytes()
    assert ("root",) == report.classes


@pytest.mark.feature("MX-50")
def test_root_that_holds_images_is_class_0(tree, tmp_path):
    touch(tree, ["z.jpg"])
    report = make_lists(tmp_path / "all", tree, recursive=True, shuffle=False)
    assert (".", "Zoo", "b", "b/deep") == report.classes
    assert (tmp_path / "all.lst").read_bytes().startswith(b"0\t0.000000\tz.jpg\n1\t1.000000\tZoo/")


@pytest.mark.feature("MX-50")
def test_endings_are_those_given(tree, tmp_path):
    make_lists(tmp_path / "gif", tree, recursive=True, exts=[".gif", ".txt"], shuffle=False)
    expected = b"0\t0.000000\ta/empty.gif\n1\t1.000000\tb/notes.txt\n"
    assert expected == (tmp_path / "gif.lst").read_bytes()


def numbered(tmp_path, count):
    return touch(tmp_path / "many", [f"c/{n:02d}.jpg" for n in range(count)])


def numbers(path):
    return [int(line.split("\t")[0]) for line in path.read_text().splitlines()]


@pytest.mark.feature("MX-51")
@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (1.0, 0.0, {"": range(11)}),
        (0.5, 0.0, {"_train": range(5), "_val": range(5, 11)}),
        (0.5, 0.25, {"_test": range(2), "_train": range(2, 7), "_val": range(7, 11)}),
        (0.75, 0.25, {"_test": range(2), "_train": range(2, 10)}),
    ],
)
def test_names_and_order_of_the_lists(tmp_path, train, test, expected):
    root = numbered(tmp_path, 11)
    out = tmp_path / "out"
    make_lists(out / "p", root, recursive=True, train_ratio=train, test_ratio=test, shuffle=False)
    names = {f"p{ending}.lst" for ending in expected}
    assert names | {"p_classes.txt"} == names_in(out)
    assert {n: list(rows) for n, rows in expected.items()} == {
        ending: numbers(out / f"p{ending}.lst") for ending in expected
    }


@pytest.mark.feature("MX-51")
def test_chunks_have_numbered_names_and_are_divided_each(tmp_path):
    root = numbered(tmp_path, 11)
    out = tmp_path / "out"
    make_lists(
        out / "p", root, recursive=True, train_ratio=0.5, test_ratio=0.25, chunks=2, shuffle=False
    )
    # Chunks of 6 and 5; both are cut by the size of a full one: 1 test, 3 train, the rest val.
    expected = {
        "p_0_test.lst": [0], "p_0_train.lst": [1, 2, 3], "p_0_val.lst": [4, 5],
        "p_1_test.lst": [6], "p_1_train.lst": [7, 8, 9], "p_1_val.lst": [10],
    }  # fmt: skip
    assert {*expected, "p_classes.txt"} == names_in(out)
    assert expected == {name: numbers(out / name) for name in expected}


@pytest.mark.feature("MX-51")
def test_chunks_without_ratios(tmp_path):
    make_lists(tmp_path / "p", numbered(tmp_path, 3), recursive=True, chunks=2, shuffle=False)
    assert [0, 1] == numbers(tmp_path / "p_0.lst")
    assert [2] == numbers(tmp_path / "p_1.lst")


@pytest.mark.feature("MX-50")
def test_links_are_followed_but_never_in_circles(tree, tmp_path):
    other = touch(tmp_path / "other", ["1.jpg", "2.jpg"])
    (tree / "linked").symlink_to(other)
    (tree / "b" / "single.jpg").symlink_to(other / "1.jpg")
    (tree / "b" / "up").symlink_to(tree)
    (tree / "b" / "gone.jpg").symlink_to(tree / "nothing")
    (tmp_path / "door").symlink_to(tree)
    report = make_lists(tmp_path / "all", tmp_path / "door", recursive=True, shuffle=False)
    lines = (tmp_path / "all.lst").read_text().splitlines()
    assert 8 == report.images == len(lines)
    assert "3\t1.000000\tb/single.jpg" == lines[3]
    assert ["6\t3.000000\tlinked/1.jpg", "7\t3.000000\tlinked/2.jpg"] == lines[6:]
    assert (
        "a link leads nowhere: b/gone.jpg",
        "a link leads back to a folder above it: b/up",
    ) == report.notes


@pytest.mark.parametrize("name", ["b/a\tb.jpg", "b\n/1.jpg", "b /1.jpg", " /1.jpg"])
def test_name_that_breaks_a_line_is_refused_before_anything_is_written(tree, tmp_path, name):
    touch(tree, [name])
    with pytest.raises(DataError, match="does not fit into"):
        make_lists(tmp_path / "all", tree, recursive=True, train_ratio=0.5)
    assert {"root"} == names_in(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_ratio": 0.9, "test_ratio": 0.2},
        {"train_ratio": 1.0, "test_ratio": 0.1},
        {"train_ratio": -0.1},
        {"train_ratio": float("nan")},
        {"test_ratio": -0.1},
        {"chunks": 0},
        {"exts": ["jpg"]},
        {"exts": [".JPG"]},
    ],
    ids=str,
)
def test_request_that_makes_no_sense_is_refused(tree, tmp_path, wrong):
    with pytest.raises(ConfigError):
        make_lists(tmp_path / "all", tree, recursive=True, **wrong)


def test_prefix_without_a_name_is_refused(tree, tmp_path):
    for prefix in ("", f"{tmp_path}/"):
        with pytest.raises(ConfigError, match="prefix"):
            make_lists(prefix, tree, recursive=True)


def test_folder_without_images_or_none_at_all_is_refused(tree, tmp_path):
    with pytest.raises(DataError, match="no images") as caught:
        make_lists(tmp_path / "all", tree)
    assert "--recursive" in caught.value.hint
    with pytest.raises(DataError, match="no such folder"):
        make_lists(tmp_path / "all", tree / "none")


def test_other_lists_of_the_prefix_are_noted(tree, tmp_path):
    make_lists(tmp_path / "all", tree, recursive=True, train_ratio=0.5)
    (note,) = make_lists(tmp_path / "all", tree, recursive=True).notes
    assert note.endswith(f"{tmp_path / 'all_train.lst'}, {tmp_path / 'all_val.lst'}")


def test_progress_tells_images_found(tree, tmp_path):
    seen = []
    make_lists(tmp_path / "all", tree, recursive=True, progress=lambda *now: seen.append(now))
    assert (5, 0) == seen[-1]


@pytest.mark.feature("MX-50")
def test_class_file_names_the_classes_of_the_lists(tree, tmp_path):
    make_lists(tmp_path / "all", tree, recursive=True, train_ratio=0.6)
    for name in ("all_train.lst", "all_val.lst"):
        listing = list_lst(tmp_path / name, tree)
        assert ("Zoo", "b", "b/deep") == listing.classes
        folders = [str(Path(path).parent) for path in listing.locations.paths.tolist()]
        assert folders == listing.labels
