"""TensorBoard event files, written through tensorboard's own writer and without torch.

Owns the run's `events/` folder. They are a second copy, for people who look with TensorBoard: the
figures of record are in `metrics.bin`. So a write that fails stops the events and is told, but it
does not stop the run.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time as now
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.track.event_graph import GraphNode, encode_graph
from discern.track.value_buckets import bucket_values

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class EventFiles:
    """Event files under `folder`, opened at the first event; `group` names a folder in it.

    TensorBoard shows each group (train, val, ...) as a line of its own. `problem` tells why events
    were lost, None while all is well.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._rewound_to: int | None = None
        self.problem: str | None = None

    def add_scalar(
        self, tag: str, value: float, step: int, group: str = "", time: float | None = None
    ) -> None:
        """One number at `step` under `tag`; `time` in seconds since 1970, now by default."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(group, step, Summary.Value(tag=_unicode(tag), simple_value=float(value)), time)

    def add_histogram(
        self,
        tag: str,
        values: NDArray[np.floating[Any]],
        step: int,
        group: str = "",
        time: float | None = None,
    ) -> None:
        """The distribution of flat `values` in buckets; those that are not finite are left out."""
        from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

        found = bucket_values(values)
        if not found.finite:
            return
        proto = HistogramProto(
            min=found.min,
            max=found.max,
            num=found.finite,
            sum=found.sum,
            sum_squares=found.sum_squares,
            # A bucket is told by its upper limit: the first, empty one gives the lowest edge.
            bucket_limit=found.edges,
            bucket=[0, *found.counts],
        )
        self._write(group, step, Summary.Value(tag=_unicode(tag), histo=proto), time)

    def add_image(
        self, tag: str, png: bytes, step: int, group: str = "", time: float | None = None
    ) -> None:
        """A PNG file's bytes at `step`. Raises ValueError if they are not a PNG's."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if png[:8] != _PNG_SIGNATURE or png[12:16] != b"IHDR":
            raise ValueError("not a PNG file")
        width, height = struct.unpack(">II", png[16:24])
        image = Summary.Image(width=width, height=height, encoded_image_string=png)
        self._write(group, step, Summary.Value(tag=_unicode(tag), image=image), time)

    def add_text(
        self, tag: str, text: str, step: int, group: str = "", time: float | None = None
    ) -> None:
        """Text (Markdown) at `step`."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        tensor = TensorProto(
            dtype=DT_STRING,
            string_val=[_unicode(text).encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        metadata = create_summary_metadata(display_name=_unicode(tag), description="")
        self._write(
            group, step, Summary.Value(tag=_unicode(tag), tensor=tensor, metadata=metadata), time
        )

    def add_graph(self, nodes: Sequence[GraphNode]) -> None:
        """A network's graph, for the graph plugin."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._write_event("", Event(wall_time=now(), graph_def=encode_graph(nodes)))

    def add_hparams(
        self, chosen: Mapping[str, Any], metrics: Sequence[tuple[str, str]], group: str = ""
    ) -> None:
        """The run's settings (numbers, text, truth values) and the (group, tag)s that score it."""
        from tensorboard.plugins.hparams import summary_v2 as api

        plain = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in chosen.items()
        }
        config = api.hparams_config_pb(
            hparams=[api.HParam(name) for name in plain],
            metrics=[api.Metric(tag, group=place or None) for place, tag in metrics],
        )
        for summary in (config, api.hparams_pb(plain)):
            for value in summary.value:
                self._write(group, 0, value)

    def add_end(self, *, succeeded: bool) -> None:
        """How the run of these settings ended, for the table of runs."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=now())
        described = metadata.create_summary_metadata(
            plugin_data_pb2.HParamsPluginData(session_end_info=end)
        )
        value = Summary.Value(
            tag=metadata.SESSION_END_INFO_TAG, metadata=described, tensor=metadata.NULL_TENSOR
        )
        self._write("", 0, value)

    def rewind(self, step: int) -> None:
        """Training goes on from `step`: TensorBoard forgets what was shown of later steps."""
        self._rewound_to = step
        for group in self._writers:
            self._write_rewind(group, step)

    def flush(self) -> None:
        """Bring all events into their files."""
        self._guard(lambda: [writer.flush() for writer in self._writers.values()])

    def close(self) -> None:
        """Flush and close all files."""
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            self._guard(writer.close)

    def _write(self, group: str, step: int, value: Any, time: float | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        event = Event(
            wall_time=now() if time is None else time, step=step, summary=Summary(value=[value])
        )
        self._write_event(group, event)

    def _write_event(self, group: str, event: Any) -> None:
        self._guard(lambda: self._writer(group).add_event(event))

    def _writer(self, group: str) -> Any:
        if group not in self._writers:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            folder = self._folder / group if group else self._folder
            _keep_threads_quiet()
            # The queue is long enough that a training step never waits for the disk.
            self._writers[group] = EventFileWriter(str(folder), max_queue_size=1000, flush_secs=5)
            if self._rewound_to is not None:
                self._write_rewind(group, self._rewound_to)
        return self._writers[group]

    def _write_rewind(self, group: str, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        start = SessionLog(status=SessionLog.START)
        event = Event(wall_time=now(), step=step + 1, session_log=start)
        self._guard(lambda: self._writers[group].add_event(event))

    def _guard(self, action: Any) -> None:
        if self.problem is not None:
            return
        try:
            action()
        except OSError as error:
            self.problem = f"TensorBoard events stopped: {error}"


def _keep_threads_quiet() -> None:
    """TensorBoard's threads print no traceback: the next call raises what ended them."""
    tell = threading.excepthook
    if getattr(tell, "spares_tensorboard", False):
        return

    def tell_others(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            tell(args)

    tell_others.spares_tensorboard = True  # type: ignore[attr-defined]
    threading.excepthook = tell_others


def _unicode(text: str) -> str:
    """Lone surrogates, which file names may bring, have no UTF-8 form."""
    return text.encode("utf-8", "backslashreplace").decode()
