"""The search for the largest batch: what it finds, what it tries, and when it stops."""

from __future__ import annotations

import pytest

from discern.training.batch_search import BatchTrial, FoundBatch, expected_peak, search_batch


def searched(
    fixed: int, each: int, *, ceiling: int = 10**9, step_s: float = 0.0, **given: float | bool
) -> FoundBatch | None:
    """A device where `images` take fixed + each * images bytes, and no more than `ceiling`."""

    def measure(images: int) -> BatchTrial:
        peak = fixed + each * images
        return BatchTrial(images, peak if peak <= ceiling else None, step_s * images)

    wanted = {"room": 10**9, "most": 1024, "seconds": 100.0, "cautious": False, **given}
    return search_batch(measure, **wanted)  # type: ignore[arg-type]


def test_sizes_are_doubled_and_then_refined_to_an_eighth() -> None:
    found = searched(100, 10, ceiling=100 + 10 * 205)
    assert found is not None
    assert 192 == found.images  # eighths of 128 are 16: 208 is too many
    sizes = [trial.images for trial in found.tried]
    assert [2, 4, 8, 16, 32, 64, 128, 256, 192, 224, 208] == sizes
    assert not found.estimated


def test_no_more_than_the_most_is_taken() -> None:
    found = searched(0, 1, most=100)
    assert found is not None
    assert (100, 100) == (found.images, found.tried[-1].images)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_few_images_are_one_small_batch(most: int) -> None:
    found = searched(0, 1, most=most)
    assert found is not None
    assert most == found.images


def test_what_is_measured_beyond_the_room_does_not_fit_either() -> None:
    found = searched(0, 10, room=10 * 20)
    assert found is not None
    assert 20 == found.images


def test_a_cautious_search_tries_nothing_that_is_expected_beyond_the_room() -> None:
    found = searched(50, 10, room=50 + 10 * 100, cautious=True)
    assert found is not None
    assert 96 == found.images  # eighths of 64 are 8: 104 is too many
    assert max(trial.images for trial in found.tried) == 96


def test_where_time_is_short_the_rest_is_told_by_the_line() -> None:
    found = searched(50, 10, room=50 + 10 * 1000, cautious=True, step_s=0.5, seconds=20.0)
    assert found is not None
    assert found.estimated
    assert 960 == found.images  # eighths of 512 are 64
    assert 16 == found.tried[-1].images  # 2 + 4 + 8 + 16 images take 15 s, 32 would take 16 more


@pytest.mark.parametrize(("ceiling", "images"), [(15, 1), (5, None)])
def test_one_image_alone_is_the_least(ceiling: int, images: int | None) -> None:
    found = searched(0, 10, ceiling=ceiling)
    assert images == (None if found is None else found.images)


def test_the_line_goes_through_the_last_two_sizes_below() -> None:
    tried = [BatchTrial(2, 500), BatchTrial(4, 120), BatchTrial(8, 160), BatchTrial(16, None)]
    assert 240 == expected_peak(tried, 16)
    assert 500 == expected_peak(tried[:1], 16)
    assert 120 == expected_peak(tried[:2], 8)  # what falls is noise
