"""What people say of a review's images, made into the next version of its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError, DataError
from discern.data.label_decisions import Decision, DecisionHistory, DecisionSet
from discern.data.review_queue import (
    QUEUE_FILE,
    Review,
    ReviewedImage,
    Said,
    read_decided,
    read_review,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What was said: names of images (ids, paths, ranks, ranges of ranks) by action.

    `relabel`: NAMES=CLASS; `table`: an edited queue; `new_classes`: classes may be new.
    """

    accept: Sequence[str] = ()
    relabel: Sequence[str] = ()
    drop: Sequence[str] = ()
    keep: Sequence[str] = ()
    clear: Sequence[str] = ()
    table: Path | str | None = None
    new_classes: bool = False
    note: str = ""


def decide(review: Review, words: Words) -> tuple[DecisionSet, DecisionSet]:
    """(the newest version before, the one after); equal where nothing new was said.

    Raises DataError for unknown images and classes, for a suggestion that is none, and for an
    image that is decided on in two ways.
    """
    history = DecisionHistory.of(review.folder)
    before = history.newest()
    if before.number and before.head != review.head:
        raise DataError(
            "the decisions so far are on another label column", where=history.folder,
            got=before.head, expected=review.head,
        )  # fmt: skip
    said = _all_said(review, words)
    if words.clear and said:
        raise ConfigError("--clear stands alone: decide anew afterwards", where="--clear")
    if words.clear:
        return before, history.clear(before, _decided(before, words.clear))
    changes: dict[str, Decision] = {}
    for one in said:
        for decision in _decisions(review, before, one, new=words.new_classes):
            known = changes.setdefault(decision.id, decision)
            if known != decision:
                raise DataError(
                    "one image is decided on in two ways", where=decision.path,
                    got=f"{known.words()}; {decision.words()}", expected="one of them",
                )  # fmt: skip
    facts: dict[str, Any] = {"note": words.note}
    if not before.number:
        facts |= {"head": review.head, "classes": review.classes}
    classes = before.new_classes or review.classes
    added = dict.fromkeys(d.new for d in changes.values() if d.new and d.new not in classes)
    facts["new_classes"] = (*classes, *added)
    return before, history.add(before, list(changes.values()), **facts)


def check_taken_over(folder: Path) -> None:
    """Raises ConfigError where the queue in `folder` has decisions that are in no version yet."""
    queue = folder / QUEUE_FILE
    if not queue.is_file():
        return
    decided = DecisionHistory.of(folder).newest().by_id()
    left = [one.image.path for one in read_decided(queue, read_review(folder))
            if one.image.id not in decided]  # fmt: skip
    if left:
        raise ConfigError(
            f"{len(left)} decisions in the queue would be lost",
            where=queue,
            got=", ".join(left[:3]),
            hint=f"`discern data decide {folder} --from {queue}` takes them over; or another --out",
        )


def _all_said(review: Review, words: Words) -> list[Said]:
    said = [] if words.table is None else read_decided(words.table, review)
    for action in ("accept", "drop", "keep"):
        found = review.find(_names(getattr(words, action)))
        said += [Said(image, action) for image in found]
    for text in words.relabel:
        names, equals, new = text.rpartition("=")
        if not equals:
            raise ConfigError(
                "--relabel takes IMAGE=CLASS", where="--relabel", got=text, expected="12=daisy"
            )
        said += [Said(image, "relabel", new) for image in review.find(_names([names]))]
    return said


def _names(texts: Sequence[str]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _decided(before: DecisionSet, texts: Sequence[str]) -> list[str]:
    """The ids of decided images, named by id or path. Raises DataError."""
    ids = {d.path: d.id for d in before.decisions} | {d.id: d.id for d in before.decisions}
    names = _names(texts)
    unknown = [name for name in names if name not in ids]
    if unknown:
        raise DataError(
            "there is no decision on these images", where="--clear", got=", ".join(unknown[:5]),
            expected=", ".join(list(ids)[:5]) or "none was made yet",
        )  # fmt: skip
    return [ids[name] for name in names]


def _decisions(review: Review, before: DecisionSet, said: Said, *, new: bool) -> list[Decision]:
    """The decision on an image and on its copies of equal bytes and label."""
    image, known = said.image, before.by_id()
    together = [image, *(review.images[name] for name in image.copies if name in review.images)]
    found = []
    for one in together:
        earlier = known.get(one.id)
        old = earlier.old if earlier else one.label
        if said.action == "drop":
            found.append(Decision(one.id, one.path, "drop", old))
            continue
        label = image.label if said.action == "keep" else _class(review, image, said, new=new)
        relabeled = label is not None and label != old
        action = "relabel" if relabeled else "keep"
        found.append(Decision(one.id, one.path, action, old, label if relabeled else None))
    return found


def _class(review: Review, image: ReviewedImage, said: Said, *, new: bool) -> str:
    if said.action == "relabel":
        return review.class_named(said.new or "", new=new)
    if image.suggested is None:
        raise DataError(
            "nothing is suggested for this image", where=image.path, got="accept",
            expected="relabel, drop or keep",
        )  # fmt: skip
    return image.suggested
