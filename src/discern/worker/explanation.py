"""The verb `explain`: where on each image a model saw the class that it named."""

from __future__ import annotations

from pathlib import Path

from discern.base.console import Console
from discern.base.errors import DataError
from discern.base.names import counted
from discern.config.request import Request
from discern.worker.open_model import open_model
from discern.worker.out_of_memory import scoring_memory_told
from discern.worker.prediction import expand_images
from discern.worker.request_values import open_request, pair_value, set_threads
from discern.workflows.explanation import PASS_IMAGES, explain_images
from discern.workflows.explanation_page import ExplanationFolder


def explanation_verb(request: Request, console: Console) -> int:
    """Do one `explain` request."""
    given = request.arguments
    set_threads(request)
    opened = open_model(open_request(request))
    paths = expand_images(given["images"])
    folder = ExplanationFolder(Path(given["out"]))
    problems: list[str] = []
    with scoring_memory_told(opened.name, opened.device, PASS_IMAGES):
        for found in explain_images(
            opened.predictor(),
            paths,
            class_name=given["class_name"],
            head=given["head"],
            layer=given["layer"],
            on_bad_image=pair_value(request, "data.on_bad_image", "error"),
            problems=problems,
        ):
            if not folder.rows:
                console.say(f"model    {opened.name}, layer {found.layer}, maps of "
                            f"{found.map.shape[0]}x{found.map.shape[1]}")  # fmt: skip
            row = folder.add(found)
            told = "" if row["peak"] else "  no place spoke for it"
            overlay = folder.folder / row["overlay"]
            console.result(f"{found.probability:7.4f}  {found.class_name}  {overlay}{told}")
    for problem in problems:
        console.warn(f"left out: {problem}")
    if not folder.rows:
        raise DataError("there is no image to explain", got="; ".join(problems) or None)
    folder.finish(opened.name)
    page = folder.folder / "index.html"
    console.say(f"{counted(len(folder.rows), 'explanation')} in {page}")
    console.emit({"model": opened.name, "out": given["out"], "images": folder.rows})
    return 0
