"""The model bundle: a folder with weights, config, preprocessing, card and golden images.

Owns its files, their version and their SHA-256 sums. No code is loaded from a bundle: the network
is built by name from the catalogue and filled with the tensors.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from discern.base.errors import ConfigError, ModelError
from discern.base.files import hash_file
from discern.base.version import __version__
from discern.data.images import Preprocess
from discern.exporting.card import model_card
from discern.exporting.content import OWN_PREFIX, BundleContent, HeadRecord, single_head
from discern.exporting.folders import replaced_folder
from discern.exporting.golden import GoldenResult, replay, write_golden
from discern.exporting.reader_configs import VERSION, bundle_config, processor_config
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import Classifier

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
PROCESSOR: Final = "preprocessor_config.json"
CARD: Final = "README.md"
SUMS: Final = "sha256.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: the network in evaluation mode on the CPU, and its whole config."""

    path: Path
    model: Classifier
    preprocess: Preprocess
    heads: tuple[HeadRecord, ...]
    config: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the only head, in label order."""
        return single_head(self.heads, self.path).classes


def save_bundle(path: Path, content: BundleContent) -> None:
    """Write a bundle to `path`; an older bundle there is replaced when the new one is complete."""
    # Golden logits are made as a replay makes them: a float32 copy on the CPU.
    model = copy.deepcopy(content.model).to("cpu").float().eval()
    network = getattr(model, "network", model)
    tensors = {
        name: tensor.detach().contiguous().clone() for name, tensor in network.state_dict().items()
    }
    with replaced_folder(path, marker=SUMS) as folder:
        safetensors.torch.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = bundle_config(content, writer=f"discern {__version__}")
        _write_json(folder / CONFIG, config)
        _write_json(folder / PROCESSOR, processor_config(content))
        (folder / CARD).write_text(model_card(content), encoding="utf-8")
        write_golden(folder, content.golden_images, model, content.preprocess)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        sums = {file.relative_to(folder).as_posix(): hash_file(file) for file in files}
        _write_json(folder / SUMS, {"version": VERSION, "files": sums})


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
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
    """Raises ModelError naming the first file that is missing, new or changed."""
    record = _read_json(path / SUMS)
    files = record.get("files")
    if not isinstance(files, dict) or record.get("version") != VERSION:
        raise ModelError(
            "the bundle is of a version that cannot be read here",
            where=path,
            got=record.get("version"),
            expected=VERSION,
        )
    for name, digest in files.items():
        file = path / name
        if not file.is_file():
            raise ModelError("a file of the bundle is missing", where=file)
        if hash_file(file) != digest:
            raise ModelError(
                "a file of the bundle is damaged: its SHA-256 differs", where=file,
                hint="copy the bundle again, or take another checkpoint of the run",
            )  # fmt: skip


def open_bundle(path: Path) -> Bundle:
    """Open and verify a bundle. Raises ModelError naming what is damaged or does not fit."""
    check_sums(path)
    config = _read_json(path / CONFIG)
    own = config.get("discern")
    if not isinstance(own, dict):
        raise ModelError(
            "not a bundle of Discern: its config has no 'discern' part", where=path / CONFIG
        )
    heads = tuple(HeadRecord(h["name"], h["kind"], tuple(h["classes"])) for h in own["heads"])
    preprocess = Preprocess.from_record(own["preprocess"])
    architecture = str(own["architecture"])
    try:
        built = build_model(
            ModelRequest(
                name=architecture.removeprefix(OWN_PREFIX),
                num_classes=len(single_head(heads, path).classes),
                channels=preprocess.channels,
                image_size=(preprocess.height, preprocess.width),
                arguments=own["arguments"],
            )
        )
    except ConfigError as error:
        raise ModelError(
            f"the bundle's network cannot be built here: {error.what}", where=path, got=architecture
        ) from error
    _fill(built.model.network, path / WEIGHTS)
    return Bundle(path, built.model.eval(), preprocess, heads, config)


def _fill(network: nn.Module, file: Path) -> None:
    try:
        network.load_state_dict(safetensors.torch.load_file(file), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            "the bundle's tensors do not fit its network", where=file, got=str(error)[:300]
        ) from error


def replay_golden(path: Path) -> GoldenResult:
    """Open the bundle at `path` and run its golden images again. Raises ModelError."""
    bundle = open_bundle(path)
    with torch.inference_mode():
        return replay(path, bundle.model, bundle.preprocess)
