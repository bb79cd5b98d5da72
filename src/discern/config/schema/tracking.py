"""The `tracking` section: names, and what is written how often. Not part of a run's identity."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from discern.config.schema.section import Section, Spec


class TrackingConfig(Section):
    """Where the run is kept and what it records."""

    project: str | None = Field(None, description="default: the data's base name")
    name: str | None = Field(None, description="default: MODEL-N")
    checkpoint_every_s: float = Field(300.0, gt=0.0, description="seconds between checkpoints")
    log_every: int = Field(50, ge=1, description="steps between readings")
    tensorboard: bool = Field(True, description="write TensorBoard event files")
    writers: list[str] = Field(
        default_factory=list,
        description="further places for figures: sqlite, jsonl, csv, wandb, mlflow, http://..., or "
        "an import path; the run's own log is always written",
    )
    histograms: int | None = Field(
        None,
        ge=1,
        description="steps between histograms of weights and gradients; default: none",
    )
    projector: int = Field(
        0, ge=0, description="scored images whose embeddings TensorBoard's projector shows"
    )
    system_meter: bool = Field(
        True, description="CPU, memory, disk and GPUs once a second, in the run's folder system/"
    )
    metrics: list[Spec] = Field(
        default_factory=list,
        description="further figures of the final scores: macro_f1, mcc, auc, ... and arguments",
    )
    callbacks: list[Spec] = Field(
        default_factory=list,
        description="further callbacks: grad_norms, layer_statistics, checkpoint_every, ... or an "
        "import path, and arguments",
    )
    time_limit: float | str | None = Field(
        None, description="end the run after so long: seconds, or 90s, 20m, 1h30m"
    )
    profile: str | None = Field(
        None, description="trace these updates, such as 10-14, into the run's profile folder"
    )

    def record(self) -> dict[str, Any]:
        """The section as plain values."""
        return self.model_dump(mode="json")
