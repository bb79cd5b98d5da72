"""Labels that models gave, and the rule for them: they are learned from, never held out.

Owns the mark `pseudo:ROUND` in an image's origin, and the completion of splits that keeps such
images in train: a score on a model's own labels says how well it agrees with itself.

Axes: N images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.names import counted
from discern.data.label_columns import split_strata
from discern.data.label_ledger import LEDGER_FOLDER, LabelLedger
from discern.data.listing import Listing
from discern.data.manifest import MISSING, NO_SPLIT, SPLITS, Manifest
from discern.data.split import TRAIN, SplitOutcome, SplitRule, complete_split

BY_MODEL: Final = "pseudo:"


def labeled_by_models(origin: NDArray[np.str_] | None, count: int) -> NDArray[np.bool_]:
    """Whether each of `count` images has its label from a model: bool [N]."""
    if origin is None:
        return np.zeros(count, dtype=np.bool_)
    return np.char.startswith(origin, BY_MODEL)


def mark_grown_folder(listing: Listing) -> Listing:
    """A class folder's images with the origins that automatic labeling kept of them.

    A folder without its ledger, as most are, comes back as it is. Raises DataError for a damaged
    ledger: without it nobody knows whose labels these are.
    """
    if not (listing.root / LEDGER_FOLDER).is_dir():
        return listing
    labels = LabelLedger(listing.root / LEDGER_FOLDER).state.labels.values()
    given = {label.path: label for label in labels if label.path is not None}
    found = [given.get(path) for path in listing.locations.paths.tolist()]
    if not any(found):
        return listing
    origins = ["" if label is None else label.origin for label in found]
    sure = [np.nan if label is None else label.confidence for label in found]
    return replace(
        listing,
        origin=np.array(origins, dtype=np.str_),
        confidence=np.array(sure, dtype=np.float32),
    )


def origin_column(values: Any) -> NDArray[np.str_] | None:
    """A table's column of origins, if it names models; None for any other column of that name."""
    if values is None:
        return None
    texts = np.array(["" if value is None else str(value) for value in values], dtype=np.str_)
    return texts if labeled_by_models(texts, len(texts)).any() else None


def draw_splits(manifest: Manifest, rule: SplitRule) -> SplitOutcome:
    """Fill in the splits that were not given; what is drawn to be held out is people's alone.

    See `complete_split`. Raises DataError.
    """
    given = manifest.split != NO_SPLIT
    learned = labeled_by_models(manifest.origin, len(manifest))
    drawn = (manifest.split == TRAIN if given.any() else ~given) & ~learned
    numbers, names = split_strata(manifest.heads, drawn)
    numbers = np.where(learned, MISSING, numbers)
    outcome = complete_split(manifest.ids, numbers, names, manifest.split, rule)
    kept = int((learned & (outcome.codes == TRAIN)).sum())
    if not kept:
        return outcome
    return replace(outcome, notes=(*outcome.notes, kept_note(kept)))


def kept_note(count: int) -> str:
    """What is told of `count` images that stay in train for their labels' sake."""
    return f"{counted(count, 'image')} labeled by models in train alone: nothing is scored on them"


def scored_on_models(manifest: Manifest) -> list[str]:
    """A warning for val and for test, where given splits hold labels of models."""
    learned = labeled_by_models(manifest.origin, len(manifest))
    warnings = []
    for split in ("val", "test"):
        held = manifest.split == SPLITS.index(split)
        count = int((held & learned).sum())
        if count:
            warnings.append(f"{split}: {by_models_words(count, int(held.sum()))}")
    return warnings


def by_models_words(count: int, images: int) -> str:
    """What makes a score on `images` mean less, if models labeled `count` of them."""
    return (
        f"{count} of {images} labels were given by models: a score on them says how far models "
        "agree, not how often they are right"
    )
