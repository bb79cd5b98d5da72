"""Models, optimizers and whatever else has a state, saved as checkpoints of a run and loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from discern.base.errors import ConfigError, ModelError, RunError
from discern.track.run import RunWriter
from discern.track.run_folder import CHECKPOINTS, clean_name
from discern.training.checkpoints import Checkpoint, CheckpointStore, read_checkpoint
from discern.training.tensor_trees import join_tree, split_tree


def save_models(writer: RunWriter, step: int, models: Mapping[str, Any]) -> Path:
    """Save everything in `models` (names to objects with `state_dict`) as `step-N`, whole.

    A checkpoint of this step with the same contents stays; one with other contents is replaced
    once the new one is safe. Raises RunError, ConfigError for a name that names no file.
    """
    groups, parts = {}, {}
    for name, model in models.items():
        if name != clean_name(name):
            raise ConfigError("this cannot name a saved model", got=name, expected="a file name")
        tensors, parts[name] = split_tree(model.state_dict())
        # Tied weights lie in one storage, which the format refuses.
        groups[name] = {key: tensor.detach().clone() for key, tensor in tensors.items()}
    store = CheckpointStore(
        writer.path / CHECKPOINTS, warn=writer.log, check_fence=writer.check_fence
    )
    state = {"kind": "lab", "step": step, "parts": parts}
    old = store.path(step)
    if old.exists() and _differs(old, groups, state):
        aside = CheckpointStore(
            old.parent / ".replacing", warn=writer.log, check_fence=writer.check_fence
        )
        fresh = aside.write(step, groups, state)
        replaced = old.with_name(f".{old.name}.tmp-replaced")
        old.rename(replaced)
        fresh.rename(old)
        shutil.rmtree(replaced)
        aside.folder.rmdir()
        writer.log(f"checkpoint step-{step} is replaced by a newer one")
        return old
    path = store.write(step, groups, state)
    writer.log(f"checkpoint step-{step}: {', '.join(models)}")
    return path


def find_checkpoint(run: Path, wish: int | None, warn: Callable[[str], None]) -> Checkpoint:
    """The checkpoint of `wish`: a step, else the nearest earlier one; -1 the last, -2 before it.

    None: the last. Damaged ones are passed over and named. Raises RunError if none is left.
    """
    folder = run / CHECKPOINTS
    steps = CheckpointStore(folder, warn=warn).steps() if folder.is_dir() else []
    limit = wish
    if wish is None or wish < 0:
        place = len(steps) + (-1 if wish is None else wish)
        limit = steps[place] if 0 <= place < len(steps) else None
        if limit is None:
            steps = []
    found = CheckpointStore(folder, warn=warn).at_most(limit) if steps else None
    if found is None or "parts" not in found.state:
        raise RunError(
            "there is no checkpoint to load",
            where=run,
            got=f"step {wish}" if wish is not None else None,
            expected=", ".join(map(str, steps)) or "a run with saved models",
        )
    if limit is not None and found.step != limit:
        warn(f"there is no checkpoint at step {limit}: step {found.step} is taken")
    return found


def load_models(
    checkpoint: Checkpoint, models: Mapping[str, Any], warn: Callable[[str], None]
) -> list[str]:
    """Load each of `models` that the checkpoint has; gives their names.

    Models that only one side has are named in a warning. Raises ModelError where a state does not
    fit.
    """
    parts = checkpoint.state["parts"]
    for name in models:
        if name not in parts:
            warn(f"'{name}' is not in the checkpoint of step {checkpoint.step}: left as it is")
    for name in parts:
        if name not in models:
            warn(f"'{name}' of the checkpoint of step {checkpoint.step} is not loaded")
    loaded = [name for name in models if name in parts]
    for name in loaded:
        state = join_tree(parts[name], checkpoint.tensors.get(name, {}))
        try:
            models[name].load_state_dict(state)
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelError(
                f"the saved state does not fit '{name}'",
                where=checkpoint.path,
                got=str(error)[:300],
                hint="the model has changed since it was saved",
            ) from error
    return loaded


def _differs(path: Path, groups: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    try:
        old = read_checkpoint(path)
    except RunError:
        return False  # damaged: it is written anew, with a warning
    if old.state != state or set(old.tensors) != set(groups):
        return True
    return any(
        set(old.tensors[name]) != set(group)
        or any(not torch.equal(old.tensors[name][key], group[key].cpu()) for key in group)
        for name, group in groups.items()
    )


class FittedState:
    """A fitted scikit-learn model as something with a state: its attributes that end in `_`.

    Numbers, text and arrays of numbers are saved. Raises RunError for a model that holds more, as
    trees do: nothing is pickled.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        """The fitted attributes, arrays as tensors."""
        fitted = {name: value for name, value in vars(self.model).items() if name.endswith("_")}
        return {
            name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
            for name, value in fitted.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        for name, value in state.items():
            array = isinstance(value, torch.Tensor)
            setattr(self.model, name, value.numpy() if array else value)
