import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import ConfigError
from discern.config.yaml_text import dump_text, parse_document, parse_value, read_document

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_yaml_1_2_scalars_mean_what_they_say():
    text = "a: 1e-3\nb: no\nc: 2020-01-01\nd: 0o17\ne: 012\nf: ~\ng: .inf\nh: '1'\ni: true\n"
    expected = {
        "a": 0.001, "b": "no", "c": "2020-01-01", "d": 15, "e": 12, "f": None, "g": math.inf,
        "h": "1", "i": True,
    }  # fmt: skip
    assert expected == parse_document(text, "f.yaml").value


def test_lines_are_known_for_every_key():
    document = parse_document("a: 1\nb:\n  c: [1, 2]\n", "f.yaml")
    assert 3 == document.lines["b", "c"]


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), PLAIN, max_size=5))
def test_dumped_text_reads_back(value):
    assert value == parse_document(dump_text(value), "x").value


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "the same key twice"),
        ("a: [1\nb: }", 2, "not valid YAML"),
        ("a: !!python/object:os.system x", 1, "tags are not allowed"),
        ("x:\n  ? [1]\n  : 2\n", 2, "a key must be plain text"),
    ],
)
def test_bad_text_is_refused_with_its_line(text, line, what):
    with pytest.raises(ConfigError, match=what) as caught:
        parse_document(text, "f.yaml")
    assert f"f.yaml:{line}" == caught.value.where


def test_alias_bomb_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="expands to more than"):
        parse_document("\n".join(lines), "bomb.yaml")


def test_too_deep_and_too_large_are_refused():
    with pytest.raises(ConfigError, match="nested deeper"):
        parse_document("[" * 60 + "]" * 60, "deep.yaml")
    with pytest.raises(ConfigError, match="too large"):
        parse_document("a: " + "x" * 1_000_001, "large.yaml")


def test_one_value_of_a_flag():
    assert [0.5, "a", None] == parse_value("[0.5, a, ~]", "--set")
    assert "" == parse_value("", "--set")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "a: " + "{a: " * 900 + "}" * 900,
        "\n".join(" " * n + "a:" for n in range(999)),
    ],
    ids=["list", "mapping", "block"],
)
def test_nesting_is_bounded_before_it_is_followed(text):
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f.yaml")
    assert "nested deeper than 50 levels" == caught.value.what


@pytest.mark.parametrize(
    "text",
    ["a: !!int x", "a: !!float x", "a: !!bool x", "a: !!null x", "a: !!set {x}", f"a: {'9' * 5000}",
     "%YAML 1.1\n---\na: no", "a: \udcff", "b: {<<: 3}"],
    ids=range(9),
)  # fmt: skip
def test_what_does_not_mean_what_it_says_is_refused(text):
    with pytest.raises(ConfigError):
        parse_document(text, "f.yaml")


def test_merge_keys_fill_in_what_a_mapping_lacks():
    text = "x: &x {p: 1, q: 2}\ny: &y {q: 5, r: 6}\na: {<<: *x, q: 3}\nb: {q: 3, <<: [*x, *y]}\n"
    value = parse_document(text, "f.yaml").value
    assert ({"p": 1, "q": 3}, {"p": 1, "q": 3, "r": 6}) == (value["a"], value["b"])


def test_json_is_read_as_json(tmp_path):
    path = tmp_path / "f.json"
    path.write_text('{"a": "\\ud83d\\ude00", "b": {"c": [1e-3, null]}}')
    assert {"a": "😀", "b": {"c": [0.001, None]}} == read_document(path).value
    for text in ('{"a": 1, "a": 2}', "[1]", '{"a": ' * 60 + "1" + "}" * 60, "{"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            read_document(path)
