"""Images that are there twice: equal bytes, equal looks (perceptual hash), equal embeddings.

Owns the hash, the search for near pairs and their check; knows no files. Works on arrays alone.

Axes: N images, P pairs, D features of an embedding.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError

# Side of the small picture that a hash is made of, and of the part of its cosine transform that
# is kept. Source: the usual 64-bit "pHash" (Zauner, Implementation and Benchmarking of Perceptual
# Image Hash Functions, 2010): 8 x 8 lowest frequencies of 32 x 32, each against their median.
PICTURE_SIDE: Final = 32
_KEPT: Final = 8
# Bits that may differ. Source: `python -m benchmarks.data_check --accuracy`: of 1.2 million pairs
# of 1,560 real photos every pair within 10 bits shows one photo twice (64 pairs, looked at), while
# 99 % of copies at half size, brightened by 1.3 or cut by 2 %, at JPEG quality 50, are found.
NEAR_DISTANCE: Final = 10
# Beyond this the search below costs more than decoding the images, and finds strangers.
FARTHEST: Final = 15
# Least correlation of two 16 x 16 brightness pictures, and largest mean difference of their 4 x 4
# color pictures (0..255), for a pair of near hashes to count. Same source: small images (CIFAR-10)
# have so little detail that hashes alone join strangers.
LEAST_CORRELATION: Final = 0.9
LARGEST_COLOR_GAP: Final = 12.0
# Paler or stronger colors of the same tones count, too: this cosine of the color pictures, and
# this share of the stronger one's colors. Of CIFAR-10 it joins 10 more pairs, all of one photo.
LEAST_TONE: Final = 0.95
LEAST_COLOR_SHARE: Final = 0.6
# A grey copy of a colored picture counts from this correlation on.
GREY_CORRELATION: Final = 0.97
LUMA_SIDE: Final = 16
CHROMA_SIDE: Final = 4
# Standard deviation of the brightness (0..255) under which a picture shows nothing: the 1,560
# photos begin at 13; hashes of blank pictures are noise.
BLANK_DEVIATION: Final = 2.0
# Cosine similarity of embeddings from which two images count as near. Source: the usual choice
# for semantic duplicates at which copies are kept apart from look-alikes (SemDeDup, Abbas et al.
# 2023, epsilon 0.05).
NEAR_COSINE: Final = 0.95

_BANDS: Final = 4
_BAND_BITS: Final = 16
# Candidate pairs held at once: 2 million take about 100 MB.
_CHUNK: Final = 2_000_000
# Where the search ends early: a film cut into frames has more pairs than anybody wants to see.
_MOST_PAIRS: Final = 2_000_000
# 8,000 candidates take about 0.2 ms, half of what decoding a photo takes; a million photos need
# half as many each.
_CANDIDATES_PER_IMAGE: Final = 8_000
# Neighbors that an image of an often repeated hash is compared with.
_WINDOW: Final = 16
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Looks:
    """What is kept of N pictures to tell near duplicates: about 300 bytes each.

    `hashes` uint64 [N]; `luma` uint8 [N, 16, 16]; `chroma` int8 [N, 4, 4, 2], half the difference
    of blue and of red to the brightness; `blank` bool [N].
    """

    hashes: NDArray[np.uint64]
    luma: NDArray[np.uint8]
    chroma: NDArray[np.int8]
    blank: NDArray[np.bool_]

    @classmethod
    def empty(cls, count: int) -> Looks:
        """Room for `count` pictures, all blank."""
        return cls(
            np.zeros(count, dtype=np.uint64),
            np.zeros((count, LUMA_SIDE, LUMA_SIDE), dtype=np.uint8),
            np.zeros((count, CHROMA_SIDE, CHROMA_SIDE, 2), dtype=np.int8),
            np.ones(count, dtype=np.bool_),
        )

    def put(self, rows: NDArray[np.int64], pictures: NDArray[np.uint8]) -> None:
        """Fill `rows` from uint8 [rows, 32, 32, 3]; safe in threads for rows of their own."""
        values = pictures.astype(np.float32)
        luma = values @ _LUMA
        self.hashes[rows] = perceptual_hashes(luma)
        self.luma[rows] = np.rint(_shrink(luma, LUMA_SIDE)).astype(np.uint8)
        color = values[..., (2, 0)] - luma[..., None]
        self.chroma[rows] = np.rint(_shrink(color, CHROMA_SIDE) / 2).astype(np.int8)
        self.blank[rows] = luma.reshape(len(rows), -1).std(axis=1) < BLANK_DEVIATION


def _shrink(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Means over squares: [N, 32, 32, ...] to [N, side, side, ...]."""
    step = PICTURE_SIDE // side
    parts = values.reshape(len(values), side, step, side, step, *values.shape[3:])
    return np.asarray(parts.mean(axis=(2, 4)), dtype=np.float32)


@functools.cache
def _cosines() -> NDArray[np.float32]:
    """The lowest rows of the type II cosine transform: float32 [8, 32]."""
    places = 2 * np.arange(PICTURE_SIDE) + 1
    rows = np.arange(_KEPT)[:, None]
    return np.cos(np.pi * rows * places / (2 * PICTURE_SIDE)).astype(np.float32)


def perceptual_hashes(luma: NDArray[np.float32]) -> NDArray[np.uint64]:
    """The 64-bit hashes of brightness pictures [N, 32, 32]: uint64 [N]."""
    rows = _cosines()
    lowest = (rows @ luma @ rows.T).reshape(len(luma), _KEPT * _KEPT)
    middle = np.median(lowest[:, 1:], axis=1, keepdims=True)
    packed = np.packbits(lowest > middle, axis=1)
    return np.ascontiguousarray(packed).view(np.uint64)[:, 0]


def equal_groups(digests: Sequence[str]) -> list[NDArray[np.int64]]:
    """Rows of equal digest, two and more, in order of their first row; "" equals nothing."""
    rows: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest:
            rows.setdefault(digest, []).append(row)
    return [np.array(group, dtype=np.int64) for group in rows.values() if len(group) > 1]


def near_groups(
    looks: Looks, rows: NDArray[np.int64], distance: int = NEAR_DISTANCE
) -> tuple[list[NDArray[np.int64]], bool]:
    """(groups of `rows` that show the same picture, joined pair by pair; whether all were found).

    `rows` should hold one image of each group of equal bytes. Blank pictures are left out.
    """
    seen = rows[~looks.blank[rows]]
    pairs, complete = near_pairs(
        looks.hashes[seen], distance, keep=lambda p: look_alike(looks, seen[p])
    )
    return join_pairs(seen[pairs]), complete


def near_pairs(
    hashes: NDArray[np.uint64],
    distance: int = NEAR_DISTANCE,
    keep: Callable[[Pairs], NDArray[np.bool_]] | None = None,
) -> tuple[Pairs, bool]:
    """(pairs of rows of `hashes` [N] within `distance` bits, int64 [P, 2]; whether all are there).

    Equal hashes are compared within a window only, so that a thousand copies give thousands of
    pairs, not half a million; joined, they are still one group. All other pairs are found between
    the first rows of each hash: two hashes within d bits have one of 4 bands within d // 4 bits
    (Norouzi et al., Fast Search in Hamming Space with Multi-Index Hashing, 2012). `keep` says
    which pairs [P, 2] to keep. The search ends early, nearest first, at 2 million pairs, or
    where it would take longer than decoding the images.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    found = [np.empty((0, 2), dtype=np.int64)]
    for step in range(1, min(_WINDOW, len(order) - 1) + 1):
        pairs = np.stack([order[:-step], order[step:]], axis=1)
        pairs = pairs[inverse[order[:-step]] == inverse[order[step:]]]
        found.append(pairs if keep is None else pairs[keep(pairs)])
    codes, complete = _near_codes(unique, first, distance, keep)
    base = max(len(unique), 1)
    found.append(first[np.stack([codes // base, codes % base], axis=1)])
    return np.sort(np.concatenate(found).astype(np.int64), axis=1), complete


def _near_codes(
    unique: NDArray[np.uint64],
    first: NDArray[np.int64],
    distance: int,
    keep: Callable[[Pairs], NDArray[np.bool_]] | None,
) -> tuple[NDArray[np.int64], bool]:
    """Pairs of places in `unique` as place * N + other place, and whether all were found."""
    found = [np.empty(0, dtype=np.int64)]
    count = tried = 0
    most = _CANDIDATES_PER_IMAGE * len(unique)
    for left, right in _candidates(unique, distance // _BANDS):
        tried += len(left)
        near = np.bitwise_count(unique[left] ^ unique[right]) <= distance
        pairs = np.stack([left[near], right[near]], axis=1)
        if keep is not None:
            pairs = pairs[keep(first[pairs])]
        pairs.sort(axis=1)
        found.append(pairs[:, 0] * len(unique) + pairs[:, 1])
        count += len(pairs)
        if count > _MOST_PAIRS or tried > most:
            return np.unique(np.concatenate(found)), False
    return np.unique(np.concatenate(found)), True


def _candidates(
    hashes: NDArray[np.uint64], radius: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Places whose bits in some band of 16 differ in at most `radius`, the nearest bands first."""
    for count in range(radius + 1):
        for band in range(_BANDS):
            keys = (hashes >> np.uint64(band * _BAND_BITS)).astype(np.uint16).astype(np.int64)
            order = np.argsort(keys, kind="stable")
            ordered = keys[order]
            starts = np.searchsorted(ordered, np.arange((1 << _BAND_BITS) + 1))
            for bits in itertools.combinations(range(_BAND_BITS), count):
                mask = sum(1 << bit for bit in bits)
                rows = np.arange(len(order))
                if mask:
                    # Half of the rows, with the highest of the bits unset, meet the other half.
                    rows = rows[(ordered >> max(bits)) & 1 == 0]
                low = starts[ordered[rows] ^ mask] if mask else rows + 1
                yield from _spans(order, rows, low, starts[(ordered[rows] ^ mask) + 1])


def _spans(
    order: NDArray[np.int64],
    rows: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """order[row] beside each of order[low:high], about `_CHUNK` pairs at a time."""
    some = high > low
    rows, low, counts = rows[some], low[some], (high - low)[some]
    if not len(rows):
        return
    ends = np.cumsum(counts)
    cuts = np.searchsorted(ends, np.arange(_CHUNK, ends[-1] + _CHUNK, _CHUNK), side="left") + 1
    begin = 0
    for cut in np.unique(np.minimum(cuts, len(rows))):
        part = slice(begin, int(cut))
        number = counts[part]
        before = np.repeat(np.cumsum(number) - number, number)
        inside = np.arange(int(number.sum())) - before
        yield (
            order[np.repeat(rows[part], number)],
            order[np.repeat(low[part], number) + inside],
        )
        begin = int(cut)


def look_alike(looks: Looks, pairs: Pairs) -> NDArray[np.bool_]:
    """Whether each pair's small pictures agree in brightness pattern and color: bool [P]."""
    result = np.zeros(len(pairs), dtype=np.bool_)
    step = 1024  # pairs at a time: 4 MB
    for start in range(0, len(pairs), step):
        part = pairs[start : start + step]
        first, second = (_centered(looks.luma[part[:, side]]) for side in (0, 1))
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        correlation = (first * second).sum(axis=1) / np.maximum(lengths, 1e-6)
        colors = _colors_agree(looks.chroma[part[:, 0]], looks.chroma[part[:, 1]])
        grey = np.minimum(*(_most_color(looks.chroma[part[:, side]]) for side in (0, 1))) <= 1
        result[start : start + step] = ((correlation >= LEAST_CORRELATION) & colors) | (
            (correlation >= GREY_CORRELATION) & grey
        )
    return result


def _most_color(chroma: NDArray[np.int8]) -> NDArray[np.int16]:
    """The strongest color of each picture; rounding and JPEG leave 1 in a grey one."""
    strongest: NDArray[np.int16] = np.abs(chroma.astype(np.int16)).max(axis=(1, 2, 3))
    return strongest


def _colors_agree(first: NDArray[np.int8], second: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether the color pictures of each pair are near, or of the same tones: bool [P]."""
    one, other = (part.reshape(len(part), -1).astype(np.float32) for part in (first, second))
    near = 2 * np.abs(one - other).mean(axis=1) <= LARGEST_COLOR_GAP
    lengths = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    tone = (one * other).sum(axis=1) >= LEAST_TONE * lengths[0] * lengths[1]
    share = np.minimum(*lengths) >= LEAST_COLOR_SHARE * np.maximum(*lengths)
    agree: NDArray[np.bool_] = near | (tone & share)
    return agree


def _centered(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = luma.reshape(len(luma), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values


def join_pairs(pairs: Pairs) -> list[NDArray[np.int64]]:
    """The rows that hang together by `pairs` [P, 2]: sorted groups, in order of their first row."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        path = []
        while (above := parent.setdefault(row, row)) != row:
            path.append(row)
            row = above
        for below in path:
            parent[below] = row
        return row

    for left, right in pairs.tolist():
        one, other = root(left), root(right)
        parent[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for row in sorted(parent):
        groups.setdefault(root(row), []).append(row)
    return [np.array(group, dtype=np.int64) for group in groups.values()]


def embedding_pairs(
    embeddings: NDArray[np.floating], similarity: float = NEAR_COSINE, block: int = 1024
) -> Pairs:
    """Pairs of rows of `embeddings` [N, D] whose cosine is at least `similarity`: int64 [P, 2].

    Blocks of `block` x `block` products at a time, so that memory does not grow with N squared.
    Rows of zeros or with a value that is not finite are near to nothing. Raises DataError for
    another shape or a similarity outside 0 to 1.
    """
    if embeddings.ndim != 2 or not np.issubdtype(embeddings.dtype, np.floating):
        raise DataError(
            "not an array of embeddings",
            got=f"{embeddings.dtype} {list(embeddings.shape)}",
            expected="floating-point numbers [N, D]",
        )
    if not 0 < similarity <= 1:
        raise DataError("the similarity is out of range", got=similarity, expected="0 < s <= 1")
    values = np.asarray(embeddings, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(values, axis=1)
    sound = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    unit = values[sound] / lengths[sound, None]
    found = [np.empty((0, 2), dtype=np.int64)]
    for top in range(0, len(unit), block):
        for left in range(top, len(unit), block):
            near = unit[top : top + block] @ unit[left : left + block].T >= similarity - 1e-6
            rows, columns = np.nonzero(near)
            rows, columns = rows + top, columns + left
            keep = rows < columns
            found.append(np.stack([sound[rows[keep]], sound[columns[keep]]], axis=1))
    return np.concatenate(found).astype(np.int64)
