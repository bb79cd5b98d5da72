"""`discern index duplicates`: which pairs it finds among photos and changed copies of them.

240 photos of 12 species (flowers12 test), each with four copies: JPEG of quality 50, half the side,
center crop of 90 and of 80 %. Features of mobilenetv2_100, standardized, with and without 128
principal axes. By similarity: the share of the pairs found that are of one photo, and the share of
the copies that are found with their original. Prints a table and one JSON line.

    python -m benchmarks.near_duplicates --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import discern
from discern.data.feature_files import FeatureTable

MODEL = "mobilenetv2_100"
SIMILARITIES = (0.8, 0.85, 0.9, 0.95)
KINDS = ("jpeg50", "half", "crop90", "crop80")


def write_copies(photo: Path, folder: Path) -> None:
    """The photo and its changed copies, as STEM__KIND.jpg."""
    stem = f"{photo.parent.name}_{photo.stem}"
    (folder / f"{stem}__original.jpg").write_bytes(photo.read_bytes())
    image = Image.open(photo).convert("RGB")
    width, height = image.size
    image.save(folder / f"{stem}__jpeg50.jpg", quality=50)
    small = image.resize((width // 2, height // 2), Image.Resampling.LANCZOS)
    small.save(folder / f"{stem}__half.jpg", quality=90)
    for percent in (90, 80):
        x, y = (int(side * (100 - percent) / 200) for side in image.size)
        piece = image.crop((x, y, width - x, height - y))
        piece.save(folder / f"{stem}__crop{percent}.jpg", quality=90)


def shares(table: FeatureTable, pca: int | None) -> list[dict[str, float | None]]:
    """A record a similarity: precision of the pairs, and each kind's share found."""
    names = [Path(path).stem.split("__") for path in table.paths.tolist()]
    stems, kinds = np.array([n[0] for n in names]), np.array([n[1] for n in names])
    vectors = discern.Index.build(table, pca=pca).vectors
    cosines = np.triu(vectors @ vectors.T, 1)
    same = stems[:, None] == stems[None]
    records: list[dict[str, float | None]] = []
    for similarity in SIMILARITIES:
        found = cosines >= similarity
        right = float((found & same).sum())
        record: dict[str, float | None] = {
            "pca": pca,
            "similarity": similarity,
            "precision": right / float(found.sum()) if found.any() else None,
        }
        both = found | found.T
        for kind in KINDS:
            asked = (kinds == "original")[:, None] & (kinds == kind)[None] & same
            record[kind] = float(both[asked].mean())
        records.append(record)
    return records


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--photos", type=int, help="only the first so many")
    parser.add_argument("--rounds", type=int, help="nothing is drawn: one round tells all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(given.data / "flowers12" / "flowers12.tar") as archive:
            archive.extractall(folder, filter="data")
        (folder / "copies").mkdir()
        for photo in sorted((folder / "test").rglob("*.jpg"))[: given.photos]:
            write_copies(photo, folder / "copies")
        weights = given.data / "weights" / f"{MODEL}.safetensors"
        table = discern.embed(MODEL, folder / "copies", weights=weights)
    records = [record for pca in (None, 128) for record in shares(table, pca)]
    for record in records:
        print("  ".join(f"{key} {'-' if v is None else round(v, 3)}" for key, v in record.items()))
    print(json.dumps({"benchmark": "near_duplicates", "images": len(table), "records": records}))


if __name__ == "__main__":
    main()
