from hypothesis import given
from hypothesis import strategies as st

from discern.config.yaml_comments import commented_text
from discern.config.yaml_text import parse_document

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner),
    max_leaves=9,
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda key: key != "<<")


def test_a_comment_stands_behind_its_value():
    value = {"a": {"b": 1e-3, "c": [1, "2"]}, "d": {"x": {"y": None}}}
    text = commented_text(value, {("a", "b"): "from x\ny", ("d", "x"): "z"}, ["head"])
    expected = '# head\n\na:\n  b: 0.001  # from x y\n  c: [1, "2"]\nd:\n  x: {y: null}  # z\n'
    assert expected == text


@given(st.dictionaries(KEYS, PLAIN, max_size=5))
def test_text_reads_back_equal(value):
    comments = {(key,): "why" for key in value}
    assert value == parse_document(commented_text(value, comments), "x").value
