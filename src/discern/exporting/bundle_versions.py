"""New versions of a bundle: the same weights under other rules of answers.

The tensors, the preprocessing and the golden logits are the old files. The version before is kept
beside the new one as NAME-REVISION; files that did not change take no room twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import safetensors.numpy

from discern.base.errors import RunError
from discern.base.files import hash_file
from discern.data.head_spec import HeadSpec
from discern.exporting.answer_rules import REFERENCES, AnswerRules, rules_record
from discern.exporting.bundle import (
    CARD,
    CONFIG,
    SUMS,
    check_sums,
    read_bundle_json,
    write_bundle_json,
    write_sums,
)
from discern.exporting.folders import replaced_folder

_SECTION: Final = "## How it answers"
_CHANGED: Final = frozenset((CONFIG, CARD, SUMS, REFERENCES))


def write_version(
    bundle: Path, rules: AnswerRules, heads: Sequence[HeadSpec], out: Path | None = None
) -> tuple[Path, int]:
    """Write `bundle` anew under `rules`; gives where it is, and its revision.

    Without `out` it takes the bundle's name, and the old one stands beside it as NAME-REVISION.
    Raises ModelError for a damaged bundle, RunError when something else is in the way.
    """
    check_sums(bundle)
    config = read_bundle_json(bundle / CONFIG)
    own = config["discern"]
    revision = int(own.get("revision", 1))
    target = bundle if out is None else out
    if out is not None and out.exists() and out.samefile(bundle):
        raise RunError("the new version would overwrite the old one", where=out, hint="leave --out")
    made_from = {"revision": revision, "sha256": hash_file(bundle / SUMS)}
    own |= rules_record(rules, heads) | {"revision": revision + 1, "made_from": made_from}
    if out is None:
        _keep(bundle, bundle.with_name(f"{bundle.name}-{revision}"))
    with replaced_folder(target, marker=SUMS) as folder:
        _copy(bundle, folder, _CHANGED)
        write_bundle_json(folder / CONFIG, config)
        references = {
            name: of.unknown.references
            for name, of in rules.heads.items()
            if of.unknown is not None and of.unknown.references is not None
        }
        if references:
            safetensors.numpy.save_file(references, folder / REFERENCES)
        card = (bundle / CARD).read_text(encoding="utf-8").partition(f"\n{_SECTION}")[0]
        lines = "\n".join(card_lines(own))
        (folder / CARD).write_text(f"{card.rstrip()}\n\n{lines}\n", encoding="utf-8")
        write_sums(folder)
    return target, revision + 1


def card_lines(own: dict[str, Any]) -> list[str]:
    """What the card says of the rules in config.json's `discern` part."""
    lines = [_SECTION, ""]
    if own.get("temperature") is not None:
        lines.append(f"Probabilities are of logits divided by a temperature: {own['temperature']}.")
    if own.get("thresholds") is not None:
        lines.append(
            "Each class has a threshold of its own, in `config.json`: of several labels an image "
            "each counts as there from it on; one class an image is that of the largest multiple "
            "of its threshold."
        )
    rule = own.get("unknown")
    if rule is not None:
        lines.append(
            f"An image is unknown below {rule['threshold']:.4g} by {rule['method']}; "
            f"{rule['coverage']:.0%} of the images it was fitted on are known."
        )
    return lines if len(lines) > 2 else [*lines, "The likeliest class, with its softmax."]


def _keep(bundle: Path, beside: Path) -> None:
    """The old version under its own name, once; one that is there is of the same revision."""
    if (beside / SUMS).is_file():
        if hash_file(beside / SUMS) == hash_file(bundle / SUMS):
            return
        raise RunError(
            "another bundle has the name that the old version would take",
            where=beside,
            hint="move it away, or write the new version elsewhere with --out",
        )
    with replaced_folder(beside, marker=SUMS) as folder:
        _copy(bundle, folder, frozenset())


def _copy(bundle: Path, folder: Path, without: frozenset[str]) -> None:
    """The listed files of `bundle` in `folder`, as links where the file system has them."""
    for name in [*read_bundle_json(bundle / SUMS)["files"], SUMS]:
        if name in without:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(bundle / name, target)
        except OSError:
            shutil.copy2(bundle / name, target)
