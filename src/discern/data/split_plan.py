"""What a split is asked for and what came of it: `SplitPlan` and `SplitReport`. See `resplit`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from discern.base.errors import ConfigError
from discern.data.manifest import SPLITS
from discern.data.split import TEST, VAL, SplitRule

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """How to split. One of three ways; nothing given: 15 % val and 15 % test, stratified.

    Shares: `val` and `test` of each class (of all images if not `stratify`), the rest is train.
    Counts: `train_per_class`, `val_per_class`, `test_per_class` images of each class; the rest goes
    to the first of train, val, test without a count, and is left out if all have one. Folds:
    `folds` numbers 0.. in the fold column; with `val_folds` or `test_folds` these folds become
    splits, the others train, else the splits stay.

    `group_by`: whole values of the manifest's "group", of the images' "folder", or of a label
    column stay together. `keep_duplicates` keeps images of equal bytes together. `min_per_class`
    drops smaller classes first. `keep`: splits that stay as they are.
    """

    val: float | None = None
    test: float | None = None
    stratify: bool = True
    train_per_class: int | None = None
    val_per_class: int | None = None
    test_per_class: int | None = None
    min_per_class: int | None = None
    folds: int | None = None
    val_folds: tuple[int, ...] = ()
    test_folds: tuple[int, ...] = ()
    group_by: str | None = None
    keep_duplicates: bool = True
    keep: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        ways = {
            "shares": self.val is not None or self.test is not None,
            "counts per class": any(count is not None for count in self.takes),
            "folds": self.folds is not None,
        }
        given = [name for name, used in ways.items() if used]
        if len(given) > 1:
            raise ConfigError(
                "a split goes by shares, by counts per class or by folds, not by several",
                got=" and ".join(given),
            )
        shares = self.shares
        if min(shares.values()) < 0 or sum(shares.values()) >= 1:
            raise ConfigError(
                "the shares of val and test are out of range",
                got=f"val {shares[VAL]:g}, test {shares[TEST]:g}",
                expected="0 or more each, together less than 1",
            )
        for name in ("train_per_class", "val_per_class", "test_per_class", "min_per_class"):
            if (getattr(self, name) or 1) < 1 or getattr(self, name) == 0:
                raise ConfigError(
                    "a count per class is not positive", where=name, got=getattr(self, name)
                )
        self._check_folds()
        for split in self.keep:
            if split not in SPLITS:
                raise ConfigError("no such split to keep", got=split, expected=", ".join(SPLITS))

    def _check_folds(self) -> None:
        chosen = self.val_folds + self.test_folds
        if self.folds is None:
            if chosen:
                raise ConfigError("folds are named, but not how many there are", got=list(chosen))
            return
        if self.folds < 2:
            raise ConfigError("too few folds", got=self.folds, expected="at least 2")
        if len(set(chosen)) < len(chosen) or len(chosen) >= self.folds:
            raise ConfigError(
                "a fold is in two splits, or none is left for train", got=list(chosen)
            )
        if any(not 0 <= fold < self.folds for fold in chosen):
            raise ConfigError("no such fold", got=list(chosen), expected=f"0 to {self.folds - 1}")

    @property
    def shares(self) -> dict[int, float]:
        """The share of each held-out split code, SplitRule's if none is given."""
        if self.val is None and self.test is None:
            rule = SplitRule()
            return {VAL: rule.val, TEST: rule.test}
        return {VAL: self.val or 0.0, TEST: self.test or 0.0}

    @property
    def takes(self) -> tuple[int | None, int | None, int | None]:
        """Images a class for train, val and test; None without a count."""
        return self.train_per_class, self.val_per_class, self.test_per_class

    @property
    def way(self) -> str:
        """shares, counts or folds."""
        if self.folds is not None:
            return "folds"
        return "shares" if all(take is None for take in self.takes) else "counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitReport:
    """What came of a plan. `counts`: images by split (or "none") and class; `folds`: the same.

    `sizes`: images of each of these, which are fewer where an image has several classes.
    `dropped`: classes below the least, with their images. `left_out`: images beyond the counts.
    `together`: images in units of several, `units` of these, `largest` images in one.
    """

    plan: SplitPlan
    images: int
    counts: dict[str, dict[str, int]]
    folds: dict[str, dict[str, int]]
    sizes: dict[str, int]
    dropped: dict[str, int]
    left_out: int
    together: int
    units: int
    largest: int
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = asdict(self) | {"notes": list(self.notes)}
        values["plan"] |= {
            name: list(getattr(self.plan, name)) for name in ("val_folds", "test_folds", "keep")
        }
        return values

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = []
        for name, numbers in [*self.counts.items(), *self.folds.items()]:
            classes = sum(1 for label, count in numbers.items() if label and count)
            lines.append(f"{name:<8} {self.sizes[name]:>9,} images in {classes} classes")
        if self.dropped:
            lines.append(
                f"dropped  {sum(self.dropped.values()):>9,} images of {len(self.dropped)} classes "
                f"under {self.plan.min_per_class} images: {_some(self.dropped)}"
            )
        if self.left_out:
            lines.append(f"left out {self.left_out:>9,} images beyond the counts per class")
        if self.units:
            lines.append(
                f"together {self.together:>9,} images in {self.units} units, "
                f"the largest of {self.largest}"
            )
        return lines + [f"note: {note}" for note in self.notes]


def _some(numbers: dict[str, int]) -> str:
    shown = [f"{name} ({count})" for name, count in list(numbers.items())[:_SHOWN]]
    return ", ".join(shown) + (
        f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    )
