"""Exact search beside torch.matmul and topk, and the trial of cells, on two synthetic sets.

100,000 vectors of 128 numbers, 1,024 queries, k = 10, one thread, interleaved; CPU seconds. Prints
a line a set. faiss (`discern[ann]`) is needed for the trial; without it the exact part alone runs.

    python -m benchmarks.index_search
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray

from discern.workflows.index.approximate import have_faiss, judge, make_cells, try_cells
from discern.workflows.index.exact_search import search_exact

ROWS, WIDTH, QUERIES, K, BLOCK = 100_000, 128, 1024, 10, 256


def directions(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows of length 1."""
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def sets() -> dict[str, NDArray[np.float32]]:
    """500 clusters with noise of 0.7 of their spread, and no clusters at all."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(500, WIDTH))
    noise = rng.normal(size=(ROWS, WIDTH))
    clustered = centers[rng.integers(0, 500, ROWS)] + 0.7 * noise
    return {"clustered": directions(clustered), "not clustered": directions(noise)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="of the exact search")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for name, vectors in sets().items():
        queries = vectors[:QUERIES]
        base, asked = torch.from_numpy(vectors), torch.from_numpy(queries)
        ratios = []
        for _ in range(rounds):
            begin = time.process_time()
            for start in range(0, QUERIES, BLOCK):
                (asked[start : start + BLOCK] @ base.T).topk(K)
            bare = time.process_time() - begin
            begin = time.process_time()
            search_exact(vectors, queries, K)
            ratios.append(bare / (time.process_time() - begin))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name}: exact {statistics.median(ratios):.2f} of matmul + topk ({spread})")
        if have_faiss():
            choice = judge(try_cells(vectors, make_cells(vectors)))
            way = "approximate" if choice.approximate else "exact"
            print(f"{name}: {way} taken: {choice.reason}")


if __name__ == "__main__":
    main()
