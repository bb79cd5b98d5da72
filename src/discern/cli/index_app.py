"""`discern index ...`: the nearest images to an image. A worker does them, for they compute."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from discern.base.errors import ConfigError
from discern.cli.flags import flags_of
from discern.cli.options import (
    DebugFlag,
    JsonFlag,
    Pairs,
    QuietFlag,
    RunsFlag,
    build_command,
    make_request,
)

index_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

FolderArgument = Annotated[str, typer.Argument(metavar="DIR", help="folder of the index")]
FeaturesArgument = Annotated[
    list[str], typer.Argument(metavar="F", help="feature files of `discern embed`, or .npy arrays")
]


@index_app.command("build", help="Make an index of features: standardize, PCA, length 1.")
def build(
    features: FeaturesArgument,
    out: Annotated[str, typer.Option("--out", "-o", help="folder for the index")],
    pca: Annotated[
        int | None, typer.Option("--pca", min=1, help="principal axes kept; default: no PCA")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="l2, cosine or angular")] = "l2",
    search: Annotated[
        str, typer.Option("--search", help="auto, exact or approximate (discern[ann])")
    ] = "auto",
    standardize: Annotated[
        bool, typer.Option("--standardize/--no-standardize", help="features to mean 0, variance 1")
    ] = True,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Build an index."""
    arguments = {
        "features": features, "out": out, "pca": pca, "metric": metric, "search": search,
        "standardize": standardize,
    }  # fmt: skip
    _become("index-build", arguments, [], json, quiet, debug)


@index_app.command("check", help="Recall@k: queries with one of their label among the k nearest.")
def check(
    index: FolderArgument,
    features: FeaturesArgument,
    ranks: Annotated[str, typer.Option("-k", "--ranks", help="comma separated")] = "1,3,5,10",
    label: Annotated[
        str | None, typer.Option("--label", help="label column, where there are several")
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Check an index."""
    try:
        numbers = [int(part) for part in ranks.split(",")]
    except ValueError:
        raise ConfigError(
            "not whole numbers", where="--ranks", got=ranks, expected="1,3,5,10"
        ) from None
    arguments = {"index": index, "features": features, "ranks": numbers, "label": label}
    _become("index-check", arguments, [], json, quiet, debug)


def search(
    index: FolderArgument,
    queries: Annotated[
        list[str], typer.Argument(help="image files, folders, or ids, paths, rows of the index")
    ],
    neighbors: Annotated[int, typer.Option("-k", min=1, help="neighbors of each")] = 10,
    model: Annotated[
        str | None, typer.Option("--model", help="where the index's model is now")
    ] = None,
    runs: RunsFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Search an index."""
    arguments = {"index": index, "queries": queries, "k": neighbors, "model": model, "runs": runs}
    _become("index-search", arguments, flags, json, quiet, debug)


index_app.command("search", help="The nearest images to files, folders, or rows of the index.")(
    build_command(search, flags_of("index search"))
)


@index_app.command("add", help="Add features to an index; its steps stay as they were fitted.")
def add(
    index: FolderArgument,
    features: FeaturesArgument,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Add to an index."""
    _become("index-add", {"index": index, "features": features}, [], json, quiet, debug)


@index_app.command("remove", help="Take images out of an index, by id, path or row.")
def remove(
    index: FolderArgument,
    images: Annotated[list[str], typer.Argument(help="ids, paths, or rows")],
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Remove from an index."""
    _become("index-remove", {"index": index, "images": images}, [], json, quiet, debug)


@index_app.command("duplicates", help="Groups of images that lie together: near duplicates.")
def duplicates(
    index: FolderArgument,
    similarity: Annotated[float, typer.Option("--similarity", help="least cosine of a pair")] = 0.9,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Near duplicates."""
    _become("index-duplicates", {"index": index, "similarity": similarity}, [], json, quiet, debug)


@index_app.command("outliers", help="The images farthest from their nearest others.")
def outliers(
    index: FolderArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="how many")] = 20,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Outliers."""
    _become("index-outliers", {"index": index, "count": count}, [], json, quiet, debug)


def _become(verb: str, arguments: dict[str, Any], flags: Pairs, *switches: bool) -> None:
    from discern.launch.worker_process import become_worker

    json, quiet, debug = switches
    become_worker(
        make_request(verb, arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug)
    )
