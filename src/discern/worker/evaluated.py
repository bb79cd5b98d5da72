"""What an evaluation scored: the request, the model, the images and the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from discern.config.request import Request
from discern.data.scan import ScannedData
from discern.training.evaluate import Table
from discern.training.material import Material
from discern.worker.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What was scored: the images, their split and the tables, by head."""

    request: Request
    scoring: Scoring
    scanned: ScannedData
    material: Material
    split: str
    tables: dict[str, Table]

    @property
    def labeled(self) -> dict[str, Table]:
        """The tables of heads that have a label."""
        return {name: table for name, table in self.tables.items() if table.labeled.any()}

    def asked(self, name: str) -> Any:
        """The command's own option `name`."""
        return self.request.arguments.get(name)
