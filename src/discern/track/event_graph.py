"""A network's graph as TensorBoard's graph plugin reads it: plain nodes into a GraphDef."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# The producer version of TensorFlow's graphs that TensorBoard's own tests carry.
_PRODUCER = 22


class GraphNode(NamedTuple):
    """One operation. `name`: with `/` between the parts of a network that it lies in.

    `inputs`: names of the nodes whose outputs it takes; `shape`: of its (first) output.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()


def encode_graph(nodes: Sequence[GraphNode]) -> bytes:
    """The nodes as a serialized GraphDef. Raises ValueError for a name that is there twice."""
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    _check_names(node.name for node in nodes)
    protos = [
        NodeDef(
            name=node.name,
            op=node.kind,
            input=list(node.inputs),
            attr={"_output_shapes": _shapes(node.shape)},
        )
        for node in nodes
    ]
    data: bytes = GraphDef(node=protos, versions=VersionDef(producer=_PRODUCER)).SerializeToString()
    return data


def _shapes(sizes: tuple[int, ...]) -> Any:
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
    return AttrValue(list=AttrValue.ListValue(shape=[shape]))


def _check_names(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two nodes are called '{name}'")
        seen.add(name)
