"""The `discern` command: its tree of commands, and how an error leaves it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import typer

from discern.base.console import Console
from discern.base.errors import INTERRUPTED, USAGE, ConfigError, Interrupted
from discern.base.names import did_you_mean
from discern.base.version import __version__
from discern.cli.answer_commands import calibrate, thresholds
from discern.cli.autolabel_command import autolabel
from discern.cli.bench_commands import bench_app
from discern.cli.capture_command import PASSED_ON, capture
from discern.cli.config_commands import config_app
from discern.cli.data_app import data_app
from discern.cli.embed_command import embed
from discern.cli.explain_command import explain
from discern.cli.flags import flags_of
from discern.cli.import_command import import_runs
from discern.cli.index_app import index_app
from discern.cli.kfold_command import kfold
from discern.cli.model_commands import models_app
from discern.cli.options import build_command
from discern.cli.project_command import project
from discern.cli.report_command import report
from discern.cli.review_command import review
from discern.cli.runs_app import runs_app
from discern.cli.work_commands import doctor, evaluate, lr_find, predict, train

# The class above BadParameter is the one that every usage error of typer derives from.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_SETTINGS: Final[dict[str, Any]] = {
    "name": "discern",
    "help": "Tells images apart: from a folder of photos to a classifier you can trust.",
    "no_args_is_help": True,
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
}
app = typer.Typer(**_SETTINGS)
app.command("train", help="Train a classifier on DATA; the same command again goes on with it.")(
    build_command(train, flags_of("train"))
)
app.command("lr-find", help="Raise the learning rate step by step, and say which to train with.")(
    build_command(lr_find, flags_of("train"))
)
app.command("kfold", help="Train as many models as folds, each scored on the fold left out of it.")(
    build_command(kfold, flags_of("kfold"))
)
app.command("autolabel", help="Label raw images by rounds of training, as far as it can be sure.")(
    build_command(autolabel, flags_of("autolabel"))
)
app.command("eval", help="Score MODEL on every image of DATA.")(
    build_command(evaluate, flags_of("eval"))
)
app.command("report", help="Score a run's model again, in full, and write its report anew.")(
    build_command(report, flags_of("report"))
)
app.command(
    "calibrate", help="Fit MODEL's temperature on held-out images, so that its probabilities hold."
)(build_command(calibrate, flags_of("calibrate")))
app.command(
    "thresholds",
    help="Choose each class's threshold, or when MODEL says unknown, on held-out images.",
)(build_command(thresholds, flags_of("thresholds")))
app.command("predict", help="Name what is on the images: files, folders, or - for paths on stdin.")(
    build_command(predict, flags_of("predict"))
)
app.command("review", help="Labels of DATA that are probably wrong, in one queue.")(
    build_command(review, flags_of("review"))
)
app.command("explain", help="Show where on the images MODEL saw what it names: Grad-CAM maps.")(
    build_command(explain, flags_of("explain"))
)
app.command("embed", help="Write features of the images of DATA, a row each in its order.")(
    build_command(embed, flags_of("embed"))
)
app.command(
    "capture",
    help="Run any program as a run: its output is kept, figures that it prints become series.",
    context_settings=PASSED_ON,
)(capture)
app.command("import", help="Read runs of Catalyst, lab, TensorBoard, timm, Ultralytics into ours.")(
    import_runs
)
app.command("project", help="Features as points: TensorBoard's projector, and coordinates.")(
    project
)
app.command("doctor", help="What this machine has, and what to mend.")(doctor)
app.add_typer(data_app, name="data", help="Look at data, split, pack, mend it.")
app.add_typer(index_app, name="index", help="The nearest images: build, check, search an index.")
app.add_typer(models_app, name="models", help="The networks there are.")
app.add_typer(bench_app, name="bench", help="What this machine does, measured.")
app.add_typer(runs_app, name="runs", help="The runs there are.")
app.add_typer(config_app, name="config", help="The config's keys, their meaning and their values.")


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),  # noqa: FBT001
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _with_optional_values(arguments: Sequence[str]) -> list[str]:
    """Let `--resume` stand without a value: it then means the latest unfinished run."""
    result = list(arguments)
    for place, argument in enumerate(arguments):
        following = arguments[place + 1] if place + 1 < len(arguments) else "-"
        if argument == "--resume":
            result[place] = "--resume=" if following.startswith("-") else argument
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(json="--json" in given, debug="--debug" in given)
    try:
        code = _tree_for(given)(
            _with_optional_values(given), prog_name="discern", standalone_mode=False
        )
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer does not export it
            console.result(str(getattr(error, "message", "")))
            return USAGE
        return console.fail(_usage_error(error, given))
    except typer.Abort:
        return console.fail(_stopped())
    except Exception as error:  # noqa: BLE001 - the last door: told whole, and as one JSON object
        return console.last_door(error)
    except KeyboardInterrupt:
        return console.fail(_stopped())
    if code == INTERRUPTED:  # what typer makes of Ctrl-C, and tells nobody
        return console.fail(_stopped())
    return code if isinstance(code, int) else 0


def _tree_for(given: Sequence[str]) -> typer.Typer:
    """Only the command of a group that is called, else all: building all takes 0.1 s."""
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is None or len(given) < 2 or group.name != given[0]:
            continue
        called = [command for command in inner.registered_commands if command.name == given[1]]
        if called:
            alone = typer.Typer(rich_markup_mode=None)
            alone.registered_commands = called
            tree = typer.Typer(**_SETTINGS)
            tree.registered_callback = app.registered_callback
            tree.add_typer(alone, name=group.name, help=group.help)
            return tree
    return app


def _stopped() -> Interrupted:
    return Interrupted(
        "the command was stopped",
        hint="the same command again: `pack` and `get` go on, the others begin anew",
    )


def _usage_error(error: Exception, given: Sequence[str]) -> ConfigError:
    """A misspelled command or flag in our form, with the nearest name."""
    message = str(getattr(error, "message", "") or getattr(error, "format_message", str)())
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "discern"
    name = getattr(error, "option_name", None)
    command, hint, got = where, None, None
    spellings = list(getattr(getattr(error, "param", None), "opts", []))
    if spellings and spellings[0].startswith("-"):
        where = spellings[0]
        got = _value_of(given, spellings)
    if name is not None and context is not None:
        known = [text for parameter in context.command.params for text in parameter.opts]
        message, where = f"no such flag: {name}", command
        hint = did_you_mean(name, known)
    elif context is not None and "No such command" in message:
        wanted = message.split("'")[1]
        message = f"no such command: {wanted}"
        hint = did_you_mean(wanted, list(getattr(context.command, "commands", {})))
    return ConfigError(
        message, where=where, got=got, hint=hint or f"`{command} --help` lists what there is"
    )


def _value_of(given: Sequence[str], spellings: Sequence[str]) -> str | None:
    """What was given for a flag of these spellings, as typed."""
    for place, argument in enumerate(given):
        flag, equals, value = argument.partition("=")
        if flag in spellings and equals:
            return value
        if argument in spellings and place + 1 < len(given):
            return given[place + 1]
    return None


def run() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
