"""The model bundle: a folder with weights, config, preprocessing, card and golden images.

Owns its files, their version and their SHA-256 sums. No code is loaded from a bundle: the network
is built by name from the catalogue and filled with the tensors; an import path in a bundle is
refused unless the caller names it.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import safetensors.numpy
import safetensors.torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from discern.base.errors import ConfigError, ModelError
from discern.base.files import hash_file
from discern.base.plugins import is_import_path
from discern.base.version import __version__
from discern.data.head_spec import HeadSpec, main_heads
from discern.data.images import Preprocess
from discern.exporting.answer_rules import REFERENCES, AnswerRules, read_rules
from discern.exporting.card import model_card
from discern.exporting.content import OWN_PREFIX, BundleContent, head_widths, single_head
from discern.exporting.folders import replaced_folder
from discern.exporting.golden import GoldenResult, replay, write_golden
from discern.exporting.reader_configs import VERSION, bundle_config, processor_config
from discern.models.catalogue import ModelRequest, build_model
from discern.models.changes import ModelChanges
from discern.models.classifier import Classifier

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
PROCESSOR: Final = "preprocessor_config.json"
CARD: Final = "README.md"
SUMS: Final = "sha256.json"
# Arguments that would make timm open or fetch other files than the bundle's own.
_FOREIGN_ARGUMENTS: Final = frozenset(
    ("cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: the network in evaluation mode on the CPU, and its whole config."""

    path: Path
    model: Classifier
    preprocess: Preprocess
    heads: tuple[HeadSpec, ...]
    config: dict[str, Any]
    rules: AnswerRules = field(default_factory=AnswerRules)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the only head, in label order."""
        return single_head(self.heads, self.path).classes


def save_bundle(path: Path, content: BundleContent) -> None:
    """Write a bundle to `path`; an older bundle there is replaced when the new one is complete.

    Before it takes its name the new bundle is opened as a stranger would and its golden images are
    replayed. Raises ModelError when it does not give the model's own logits, and for a model that
    a bundle cannot hold; RunError when `path` holds something else.
    """
    if not main_heads(content.heads):
        raise ModelError("a bundle needs a head that answers", where=path)
    widths = head_widths(content.heads)
    if len(content.heads) > 1 and widths != getattr(content.model, "widths", None):
        raise ModelError(
            "these are not the heads of the network",
            where=path,
            got=", ".join(f"{head.name} ({head.width})" for head in content.heads),
            expected=getattr(content.model, "widths", "one head"),
        )
    if not content.golden_images:
        raise ModelError("a bundle needs at least one golden image", where=path)
    # Golden logits are made as a replay makes them: a float32 copy on the CPU.
    model = copy.deepcopy(content.model).to("cpu").float().eval()
    network = getattr(model, "network", model)
    tensors = {
        name: tensor.detach().contiguous().clone() for name, tensor in network.state_dict().items()
    }
    with replaced_folder(path, marker=SUMS) as folder:
        safetensors.torch.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = bundle_config(content, writer=f"discern {__version__}")
        write_bundle_json(folder / CONFIG, config)
        write_bundle_json(folder / PROCESSOR, processor_config(content))
        (folder / CARD).write_text(model_card(content), encoding="utf-8")
        write_golden(folder, content.golden_images, model, content.preprocess)
        write_sums(folder)
        _prove(folder, content.architecture)


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file in `folder`, all with the permissions of config.json."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {file.relative_to(folder).as_posix(): hash_file(file) for file in files}
    for file in files:
        # safetensors writes files that nobody but their owner reads.
        file.chmod((folder / CONFIG).stat().st_mode)
    write_bundle_json(folder / SUMS, {"version": VERSION, "files": sums})


def _prove(folder: Path, architecture: str) -> None:
    """Raises ModelError when the bundle in `folder` does not give its own golden logits."""
    result = replay_golden(folder, trusted=architecture)
    if not result.ok:
        raise ModelError(
            "the bundle does not give the logits of the model it was made from",
            where=architecture,
            got=f"largest gap {result.max_gap:.3g}",
            expected=f"at most {result.allowed:.3g}",
            hint="the network must be the same when built again from its name and arguments",
        )


def write_bundle_json(path: Path, value: Any) -> None:
    """Write one of the bundle's JSON files."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_bundle_json(path: Path) -> dict[str, Any]:
    """One of the bundle's JSON files. Raises ModelError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError("a file of the bundle is missing", where=path) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"a file of the bundle cannot be read: {error}", where=path) from error
    if not isinstance(value, dict):
        raise ModelError("a file of the bundle is damaged", where=path)
    return value


def check_sums(path: Path) -> None:
    """Raises ModelError naming the first file that is missing or changed."""
    record = read_bundle_json(path / SUMS)
    _check_version(record.get("version"), path / SUMS)
    files = record.get("files")
    if not isinstance(files, dict) or not {CONFIG, WEIGHTS} <= files.keys():
        raise ModelError("a file of the bundle is damaged", where=path / SUMS)
    for name, digest in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ModelError("a file outside the bundle is named", where=path / SUMS, got=name)
        file = path / name
        if not file.is_file():
            raise ModelError("a file of the bundle is missing", where=file)
        if hash_file(file) != digest:
            raise ModelError(
                "a file of the bundle is damaged: its SHA-256 differs",
                where=file,
                hint="copy the bundle again, or take another checkpoint of the run",
            )


def _check_version(version: object, file: Path) -> None:
    if version == VERSION:
        return
    newer = isinstance(version, int) and version > VERSION
    raise ModelError(
        "the bundle is of a version that cannot be read here",
        where=file,
        got=version,
        expected=VERSION,
        hint="a newer Discern wrote it: upgrade" if newer else None,
    )


def open_bundle(path: Path, *, trusted: str | None = None) -> Bundle:
    """Open and verify a bundle; files that it does not list are left alone.

    `trusted`: the import path of the network's builder, when the caller knows from elsewhere (the
    run's own config) that it may be run. A bundle alone never chooses what code runs. Raises
    ModelError naming what is damaged, unknown or does not fit.
    """
    check_sums(path)
    config = read_bundle_json(path / CONFIG)
    own = config.get("discern")
    if not isinstance(own, dict):
        raise ModelError(
            "not a bundle of Discern: its config has no 'discern' part", where=path / CONFIG
        )
    _check_version(own.get("version"), path / CONFIG)
    try:
        heads = tuple(HeadSpec.from_record(h) for h in own["heads"])
        preprocess = Preprocess.from_record(own["preprocess"])
        architecture, arguments = str(own["architecture"]), dict(own["arguments"])
        changes = ModelChanges.from_record(own.get("changes") or {})
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise ModelError(
            f"the bundle's config lacks what is needed: {error}", where=path / CONFIG
        ) from error
    _check_code(architecture, trusted, path)
    foreign = sorted(_FOREIGN_ARGUMENTS & arguments.keys())
    if foreign:
        raise ModelError(
            "the bundle asks for files outside itself", where=path / CONFIG, got=", ".join(foreign)
        )
    request = ModelRequest(
        name=architecture.removeprefix(OWN_PREFIX),
        num_classes=sum(head.width for head in heads),
        heads=head_widths(heads),
        channels=preprocess.channels,
        image_size=(preprocess.height, preprocess.width),
        arguments=arguments,
        changes=changes,
    )
    rules = read_rules(own, heads, _references(path), path / CONFIG)
    return Bundle(path, _build(request, path), preprocess, heads, config, rules)


def _references(path: Path) -> dict[str, NDArray[np.float32]]:
    """The reference features of the heads that have a rule of distance."""
    if not (path / REFERENCES).is_file():
        return {}
    try:
        return dict(safetensors.numpy.load_file(path / REFERENCES))
    except SafetensorError as error:
        raise ModelError(
            "a file of the bundle cannot be read", where=path / REFERENCES, got=str(error)[:300]
        ) from error


def _check_code(architecture: str, trusted: str | None, path: Path) -> None:
    if is_import_path(architecture) and architecture != trusted:
        raise ModelError(
            "the bundle names code to run, and code from a bundle is not run",
            where=path / CONFIG,
            got=architecture,
            expected="the name of a network that Discern or timm knows",
            hint="open the run that trained it, whose own config names the same code",
        )


def _build(request: ModelRequest, path: Path) -> Classifier:
    """The network of `request`, on the CPU in evaluation mode, with the bundle's tensors."""
    try:
        model = build_model(request).model
    except ConfigError as error:
        raise ModelError(
            f"the bundle's network cannot be built here: {error.what}", where=path, got=request.name
        ) from error
    try:
        model.network.load_state_dict(safetensors.torch.load_file(path / WEIGHTS), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            "the bundle's tensors do not fit its network",
            where=path / WEIGHTS,
            got=str(error)[:300],
        ) from error
    return model.eval()


def replay_golden(path: Path, *, trusted: str | None = None) -> GoldenResult:
    """Open the bundle at `path` and run its golden images again. Raises ModelError."""
    bundle = open_bundle(path, trusted=trusted)
    return replay(path, bundle.model, bundle.preprocess)
