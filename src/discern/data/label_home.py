"""Where automatic labels are kept, and what can be made again from their ledger.

The clean folder itself has the ledger of images copied or linked into it; of labels that are only
listed it stands beside the runs, and the clean folder is never touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError
from discern.base.files import sweep_temporaries
from discern.data.label_audit import AUDIT_FILE, read_verdicts, write_audit
from discern.data.label_folders import (
    DATASET_FILE,
    LabelFolders,
    check_dataset,
    deal_folds,
    read_folders,
    write_dataset,
)
from discern.data.label_ledger import (
    FOUND_WRONG,
    LABELED_BY_HAND,
    LEDGER_FOLDER,
    REMOVED_BY_HAND,
    GivenLabel,
    LabelLedger,
)
from discern.data.label_placing import Mode, Warn, carry_out


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelHome:
    """The places of one labeling. `home`: folder of ledger, dataset.csv and audit.csv."""

    clean: Path
    raw: Path
    home: Path
    mode: Mode
    folds: int
    on_bad_image: str = "error"

    @property
    def ledger_folder(self) -> Path:
        """The hidden folder of entries and lock."""
        return self.home / LEDGER_FOLDER

    def settle(self, ledger: LabelLedger, warn: Warn) -> LabelFolders:
        """Bring folder and ledger together, whatever happened since: gives the folders as read.

        What the ledger asks for is done; labels that a person removed, gave an image herself, or
        found wrong in the audit, are taken back and not given again. The caller holds the lock of
        the ledger. Raises DataError.
        """
        for folder in (self.home, self.ledger_folder):
            if folder.is_dir():
                sweep_temporaries(folder)
        carry_out(ledger, self.clean, self.raw, self.mode, warn)
        folders = self._read(ledger)
        self._hear_audit(ledger, folders)
        labels = list(ledger.state.labels.values())
        people = frozenset(name.partition("-")[0] for name in folders.human.ids.tolist())
        reasons = [_by_hand(label, people, folders.placed, ledger) for label in labels]
        taken = [(label, reason) for label, reason in zip(labels, reasons, strict=True) if reason]
        if taken:
            ledger.withdraw([label for label, _ in taken], [reason for _, reason in taken])
            carry_out(ledger, self.clean, self.raw, self.mode, warn)
            folders = self._read(ledger)
        return folders

    def _read(self, ledger: LabelLedger) -> LabelFolders:
        labels = list(ledger.state.labels.values())
        return read_folders(self.clean, self.raw, labels, on_bad_image=self.on_bad_image)

    def _hear_audit(self, ledger: LabelLedger, folders: LabelFolders) -> None:
        said = read_verdicts(self.home / AUDIT_FILE, folders.human.classes)
        state = ledger.state
        news = {
            label: said[label.id]
            for label in state.labels.values()
            if label.id in said and state.verdicts.get(label.id) != (label.round, said[label.id])
        }
        if news:
            ledger.judge(news)

    def write_tables(self, ledger: LabelLedger, folders: LabelFolders) -> dict[str, Path]:
        """Write dataset.csv and audit.csv as the ledger has them; gives their paths by name."""
        labels = standing(ledger)
        dataset, audit = self.home / DATASET_FILE, self.home / AUDIT_FILE
        self.home.mkdir(parents=True, exist_ok=True)
        check_dataset(dataset)
        write_dataset(dataset, deal_folds(folders.human, self.folds), labels, self.raw)
        state = ledger.state
        sample = [
            GivenLabel(**record)
            for content in state.rounds
            if content["round"] not in state.undone
            for record in content["labels"]
            if record["id"] in content["audit"]
        ]
        verdicts = {content: right for content, (_, right) in state.verdicts.items()}
        write_audit(audit, sample, verdicts, self.clean, self.raw)
        return {"dataset": dataset, "audit": audit}


def _by_hand(
    label: GivenLabel, people: frozenset[str], placed: frozenset[str], ledger: LabelLedger
) -> str | None:
    """Why a person takes the label back; None if she does not."""
    if label.id in people:
        return LABELED_BY_HAND
    if label.path is not None and label.path not in placed:
        return REMOVED_BY_HAND
    verdict = ledger.state.verdicts.get(label.id)
    return FOUND_WRONG if verdict == (label.round, False) else None


def standing(ledger: LabelLedger) -> list[GivenLabel]:
    """The labels that stand, round by round, by content."""
    return sorted(ledger.state.labels.values(), key=lambda label: (label.round, label.id))


def find_home(clean: Path, mode: Mode, beside_runs: Path) -> Path:
    """The folder of the ledger. Raises ConfigError for labels listed over ones that were placed."""
    if mode != "manifest":
        return clean
    if (clean / LEDGER_FOLDER).is_dir():
        raise ConfigError(
            "images were labeled into this folder before, so its labels are not people's alone",
            where="--mode",
            got="manifest",
            expected="copy or link, as before",
            hint=f"or name a clean folder without {LEDGER_FOLDER}",
        )
    return beside_runs / f"{clean.absolute().name}-labels"


def undo_rounds(place: LabelHome, rounds: Sequence[int], warn: Warn) -> dict[str, Any]:
    """Take back all labels of `rounds`; images placed by them leave the clean folder again.

    Gives the object of `--json`. The caller holds the ledger's lock. Raises ConfigError for a round
    that is not there or undone already.
    """
    ledger = LabelLedger(place.ledger_folder)
    taken = {number: len(ledger.undo(number)) for number in rounds}
    last = max((c["round"] for c in ledger.state.rounds if c["round"] not in ledger.state.undone),
               default=-1)  # fmt: skip
    if last > min(rounds):
        warn(
            f"rounds up to {last} were labeled by models that learned from round {min(rounds)}; "
            "--undo takes them back, too"
        )
    folders = place.settle(ledger, warn)
    files = place.write_tables(ledger, folders)
    return {
        "undone": [{"round": number, "labels": count} for number, count in taken.items()],
        "labels": len(ledger.state.labels),
        **{name: str(path) for name, path in files.items()},
    }
