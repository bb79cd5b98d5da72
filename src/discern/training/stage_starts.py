"""Where each stage of a run begins, and the stages that only predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discern.data.manifest import SPLITS
from discern.training.prediction_stage import write_predictions
from discern.training.session import Session
from discern.training.starting_point import StartingPoint, earlier_stage, is_elsewhere

if TYPE_CHECKING:
    from discern.training.stages import Training


def starting_point(training: Training, name: str) -> StartingPoint:
    """Where the stage begins; one that predicts, without a word, at the best of that before."""
    config, names = training.config.stages[name], list(training.config.stages)
    trained = training.config.training_stages
    before = [one for one in names[: names.index(name)] if one in trained]
    wish = config.start_from or ("best" if config.kind == "predict" else None)
    if wish is None:
        return StartingPoint()
    if is_elsewhere(wish):
        return StartingPoint(path=training.elsewhere[name])
    return StartingPoint(stage=earlier_stage(wish, before, where=f"stages.{name}.start_from"))


def predict_stage(training: Training, session: Session, name: str) -> None:
    """Write what the network says of the images; the model is then as it was."""
    config, model = training.config.stages[name], training.model
    held = {key: value.clone() for key, value in model.state_dict().items()}
    weights = starting_point(training, name).load(model, session)
    material = training.own_images.get(name, training.material)
    splits = {split: split for split in SPLITS if len(material.positions(split))}
    if name in training.own_images:
        splits = {**({} if splits else {"infer": "all"}), **splits}
    folder = session.store.folder.parent / "predictions" / name
    written = write_predictions(
        model,
        material,
        splits,
        folder,
        batch_size=material.evaluation_batch(config.batch),
        weights=weights,
        world=training.world,
    )
    model.load_state_dict(held)
    told = ", ".join(f"{key} {value}" for key, value in weights.items())
    done = ", ".join(written) if written else "all there already"
    session.recorder.say(f"stage {name}: predictions ({told}) of {done} in {folder}")
