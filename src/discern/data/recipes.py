"""Known ways to prepare known data: Caltech-256, ImageNet's validation images, ImageNet-11K.

Owns the numbers of each recipe and where they are from. A recipe is chosen by the user, never by
the name of a data set, and only names what `resplit` and packing take; nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.data.manifest import SPLITS, Manifest
from discern.data.pack_plan import PackOptions
from discern.data.resplit import SplitPlan, SplitReport, resplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps for one kind of data: how it is split, then how it is packed.

    `needs`: what DATA must be. `whole`: the split that all images are put into, where the list of
    images is fixed; else `split` says how. `classes` and `images`: what the source counts, to be
    compared; None where it does not say. `source`: where the numbers are from.
    """

    name: str
    text: str
    needs: str
    source: str
    pack: PackOptions
    split: SplitPlan | None = None
    whole: str | None = None
    classes: tuple[int, ...] = ()
    images: int | None = None

    def record(self) -> dict[str, Any]:
        """As plain JSON values; of the options only those that differ from their defaults."""
        return {
            "name": self.name,
            "text": self.text,
            "needs": self.needs,
            "source": self.source,
            "split": None if self.split is None else _given(self.split, SplitPlan()),
            "whole": self.whole,
            "pack": _given(self.pack, PackOptions()),
            "classes": list(self.classes),
            "images": self.images,
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        split = f"all in {self.whole}" if self.split is None else _spelled(self.record()["split"])
        return [
            f"{self.name}: {self.text}",
            f"  data   {self.needs}",
            f"  split  {split}",
            f"  pack   {_spelled(self.record()['pack'])}",
            f"  from   {self.source}",
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeReport:
    """What a recipe made of the data: images by split, and what differs from its source."""

    recipe: Recipe
    images: dict[str, int]
    classes: int
    split: SplitReport | None
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "recipe": self.recipe.record(),
            "images": self.images,
            "classes": self.classes,
            "split": None if self.split is None else self.split.record(),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [f"{name:<8} {count:>9,} images" for name, count in self.images.items()]
        own = lines if self.split is None else self.split.lines()
        return own + [f"note: {note}" for note in self.notes]


_MXNET: Final = "MXNet's image classification guide"

_RECIPES: Final = (
    Recipe(
        name="caltech-256",
        text="60 images of each class to learn from, the rest to validate",
        needs="the folder 256_ObjectCategories, a folder per class",
        # The guide counts 15,240 training images; 60 of each of 256 classes are 15,360, and of
        # 257 with the clutter class 15,420. Here it is 60 of every class that is there.
        source=f"{_MXNET}: 60 random images a class, short side 256, quality 95, 16 threads",
        split=SplitPlan(train_per_class=60),
        pack=PackOptions(
            format="rec", name="caltech-256-60", resize=256, quality=95, encoding="jpg",
            shuffle=True,
        ),
        classes=(256, 257),
    ),
    Recipe(
        name="imagenet-val",
        text="ImageNet's validation images, in the order and with the labels of its list",
        needs="val.lst, the fixed list, with --root for the folder of the images",
        source=f"{_MXNET}: val.lst, short side 256, quality 90",
        whole="val",
        pack=PackOptions(
            format="rec", name="imagenet1k", resize=256, quality=90, encoding="jpg"
        ),
        classes=(1000,),
        images=50_000,
    ),
    Recipe(
        name="imagenet-11k",
        text="ImageNet's classes of at least 500 images, 50 of each to validate",
        needs="the folder of the whole ImageNet (fall 2011), a folder per class",
        # Short side and quality as for the 1,000 classes: the guide leaves them open.
        source=f"{_MXNET}: at least 500 images a class, 50 of them held out",
        split=SplitPlan(min_per_class=500, val_per_class=50),
        pack=PackOptions(
            format="rec", name="imagenet11k", resize=256, quality=90, encoding="jpg",
            shuffle=True,
        ),
    ),
)  # fmt: skip
RECIPES: Final = tuple(recipe.name for recipe in _RECIPES)


def recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises ConfigError for none of that name."""
    for known in _RECIPES:
        if known.name == name:
            return known
    raise ConfigError(
        "unknown recipe", got=name, expected=", ".join(RECIPES), hint=did_you_mean(name, RECIPES)
    )


def follow_recipe(chosen: Recipe, manifest: Manifest) -> tuple[Manifest, RecipeReport]:
    """A new manifest, split as the recipe says; `chosen.pack` says how to pack it.

    Counts that are not its source's are noted, not refused: data sets change. Raises DataError for
    a class with too few images.
    """
    report = None
    if chosen.split is not None:
        result, report = resplit(manifest, chosen.split)
    else:
        code = SPLITS.index(chosen.whole or "train")
        result = manifest.with_split(np.full(len(manifest), code, dtype=np.int8))
    classes = len(result.heads[0].classes)
    notes = []
    if chosen.classes and classes not in chosen.classes:
        wanted = " or ".join(f"{count:,}" for count in chosen.classes)
        notes.append(f"the recipe's source has {wanted} classes, the data has {classes:,}")
    if chosen.images is not None and len(manifest) != chosen.images:
        notes.append(
            f"the recipe's source has {chosen.images:,} images, the data has {len(manifest):,}"
        )
    return result, RecipeReport(
        recipe=chosen,
        images=result.sizes(),
        classes=classes,
        split=report,
        notes=tuple(notes),
    )


def _given(options: Any, defaults: Any) -> dict[str, Any]:
    usual = asdict(defaults)
    return {key: value for key, value in asdict(options).items() if value != usual[key]}


def _spelled(options: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())
