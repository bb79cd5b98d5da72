"""The files of `discern explain`: an overlay a picture, a page that shows them all, a record."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.files import write_bytes, write_text
from discern.base.page_frame import whole_page
from discern.workflows.explanation import Explanation

_OWN_STYLE = """
.seen{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:24px 20px}
.seen div{display:grid;grid-template-columns:1fr 1fr;gap:4px}
.seen img{width:100%;display:block;border-radius:6px;border:1px solid var(--line)}
.seen figcaption{font-size:12px;line-height:1.4;margin-top:6px;overflow-wrap:anywhere}
.seen figcaption span{color:var(--soft)}
.ramp{display:inline-block;width:120px;height:8px;border-radius:4px;vertical-align:middle;
margin:0 6px;background:linear-gradient(to right,#30123b,#4686fb,#1ae4b6,#a2fc3c,#faba39,
#e4460a,#7a0403)}
""".strip()


class ExplanationFolder:
    """The folder that explanations are written to, one by one; the page comes last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self._taken: set[str] = set()

    def add(self, found: Explanation) -> dict[str, Any]:
        """Write the overlay and what the network saw; gives the image's row of the record."""
        stem = self._free_stem(found.name)
        write_bytes(self.folder / "overlays" / f"{stem}.png", _png(found.overlay()))
        write_bytes(self.folder / "seen" / f"{stem}.png", _png(found.pixels))
        row = {
            "image": found.name,
            "head": found.head,
            "class": found.class_name,
            "probability": found.probability,
            "layer": found.layer,
            "peak": None if found.empty else [round(value, 4) for value in found.peak],
            "map": np.round(found.map.astype(float), 6).tolist(),
            "overlay": f"overlays/{stem}.png",
        }
        self.rows.append(row)
        return row

    def finish(self, model: str) -> None:
        """Write `explanations.json` and `index.html`."""
        record = {"model": model, "images": self.rows}
        write_text(self.folder / "explanations.json", json.dumps(record, indent=1) + "\n")
        write_text(self.folder / "index.html", _page(model, self.rows))

    def _free_stem(self, name: str) -> str:
        """A file name of its own for each image, also of two images of one name."""
        stem = Path(name).stem[:80] or "image"
        free, number = stem, 1
        while free.casefold() in self._taken:  # some file systems know no capitals
            number += 1
            free = f"{stem}-{number}"
        self._taken.add(free.casefold())
        return free


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _page(model: str, rows: list[dict[str, Any]]) -> str:
    figures = "".join(_figure(row) for row in rows)
    layer = html.escape(rows[0]["layer"]) if rows else ""
    title = f"What {model} looked at"
    header = (
        f"<header><h1>{html.escape(title)}</h1><p class='sub'>Left: the image as the network saw "
        "it, resized and cropped. Right: where the class was seen (Grad-CAM), each image on its "
        f"own scale.<br>nothing<i class='ramp'></i>most &nbsp; layer <b>{layer}</b></p>"
        "<p class='sub'>A map says where the network looked, not whether it was right to, and it is"
        " as coarse as its layer.</p></header>"
    )
    return whole_page(
        title,
        [header, f"<section><div class='seen'>{figures}</div></section>"],
        style=_OWN_STYLE,
        footer="The maps as numbers: explanations.json",
        images="'self' data: file:",  # the pictures lie beside the page
    )


def _figure(row: dict[str, Any]) -> str:
    name = html.escape(str(row["image"]))
    overlay = html.escape(row["overlay"])
    seen = overlay.replace("overlays/", "seen/", 1)
    empty = "" if row["peak"] else "<br>no place spoke for this class"
    return (
        f"<figure><div><img alt='' src='{seen}' loading='lazy'>"
        f"<img alt='map' src='{overlay}' loading='lazy'></div>"
        f"<figcaption><b>{html.escape(row['class'])}</b> {row['probability']:.1%}<br>"
        f"<span>{name}{empty}</span></figcaption></figure>"
    )
