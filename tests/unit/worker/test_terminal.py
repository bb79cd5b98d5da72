"""What the terminal says of scores."""

from discern.data.head_spec import HeadSpec
from discern.worker.terminal import top5_words


def test_the_best_five_of_five_classes_or_fewer_are_not_told():
    few, many = (HeadSpec(str(n), "single", tuple("abcdef"[:n])) for n in (5, 6))
    assert "" == top5_words({"top5": 1.0}, [few])
    assert "" == top5_words({"top5": None}, [many])
    assert "top-5 0.9000, " == top5_words({"top5": 0.9}, [many])
