"""CIFAR's original files: the binary version, and the python batches without unpickling them.

The batches are interpreted opcode by opcode: only what numpy arrays, numbers, texts, lists and
dictionaries need is understood, and nothing is ever called or imported.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError

SIDE: Final = 32
PIXELS: Final = 3 * SIDE * SIDE
LABELS: Final = 100
# The authors' class names in label order, for copies that lack the file of names.
CIFAR10_CLASSES: Final = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR100_CLASSES: Final = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch",
    "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest",
    "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower",
    "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear",
    "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit",
    "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower",
    "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor", "train",
    "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip
_MARK: Final = object()
# The only globals that the original batches name; they stand for building one array of bytes.
_KNOWN: Final = frozenset(
    (
        "numpy.core.multiarray _reconstruct",
        "numpy._core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
        "_codecs encode",
    )
)
_PUSHED: Final = frozenset(
    (
        "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINUNICODE", "SHORT_BINUNICODE",
        "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES", "SHORT_BINBYTES",
        "BINFLOAT", "FLOAT",
    )
)  # fmt: skip


class _Named:
    """A global that the file names: compared by name, never opened."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Array:
    """An array being put together."""

    value: NDArray[np.uint8] | None = None


def read_batch(data: bytes, name: str) -> dict[str, Any]:
    """The dictionary in a python batch; keys as text. Raises DataError naming `name`."""
    reader = _BatchReader(name)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                break
            reader.do(opcode.name, argument)
        result = reader.stack[-1]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"not a CIFAR batch: {error}", where=name) from error
    if not isinstance(result, dict):
        raise DataError("not a CIFAR batch", where=name, got=type(result).__name__)
    return {_text(key): _plain(value) for key, value in result.items()}


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Array) else value


class _BatchReader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._actions: dict[str, Callable[[Any], None]] = {
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
            "MARK": lambda _: self.stack.append(_MARK),
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_TUPLE": lambda _: self.stack.append(()),
            "DICT": lambda _: self.stack.append(self._pairs(self._from_mark())),
            "LIST": lambda _: self.stack.append(self._from_mark()),
            "TUPLE": lambda _: self.stack.append(tuple(self._from_mark())),
            "TUPLE1": lambda _: self._tuple(1),
            "TUPLE2": lambda _: self._tuple(2),
            "TUPLE3": lambda _: self._tuple(3),
            "NONE": lambda _: self.stack.append(None),
            "NEWTRUE": lambda _: self.stack.append(True),
            "NEWFALSE": lambda _: self.stack.append(False),
            "POP": lambda _: self.stack.pop(),
            "SETITEM": lambda _: self._set_items([self.stack.pop(-2), self.stack.pop()]),
            "SETITEMS": lambda _: self._set_items(self._from_mark()),
            "APPEND": lambda _: self._extend([self.stack.pop()]),
            "APPENDS": lambda _: self._extend(self._from_mark()),
            "MEMOIZE": lambda _: self.memo.__setitem__(len(self.memo), self.stack[-1]),
            "REDUCE": lambda _: self._reduce(),
            "BUILD": lambda _: self._build(),
        }

    def do(self, opcode: str, argument: Any) -> None:
        """Interpret one opcode. Raises DataError for any that arrays do not need."""
        if opcode in _PUSHED:
            # Python 2 wrote bytes as strings, which genops gives as latin-1 text.
            self.stack.append(argument)
        elif opcode in self._actions:
            self._actions[opcode](argument)
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(argument)])
        elif opcode == "GLOBAL":
            self._name(str(argument))
        elif opcode == "STACK_GLOBAL":
            attribute, module = self.stack.pop(), self.stack.pop()
            self._name(f"{module} {attribute}")
        else:
            raise self._refused(opcode)

    def _refused(self, what: str) -> DataError:
        return DataError(
            "the file holds something else than arrays and lists, and is not opened",
            where=self.name,
            got=what,
        )

    def _name(self, name: str) -> None:
        if name not in _KNOWN:
            raise self._refused(name)
        self.stack.append(_Named(name.rpartition(" ")[2]))

    def _from_mark(self) -> list[Any]:
        place = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _tuple(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _pairs(self, items: list[Any]) -> dict[Any, Any]:
        for key in items[::2]:
            # Anything deeper could exhaust the interpreter's stack when it is hashed.
            if not isinstance(key, str | bytes):
                raise self._refused(f"a key of type {type(key).__name__}")
        return dict(zip(items[::2], items[1::2], strict=True))

    def _set_items(self, items: list[Any]) -> None:
        self.stack[-1].update(self._pairs(items))

    def _extend(self, items: list[Any]) -> None:
        self.stack[-1].extend(items)

    def _reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        name = getattr(called, "name", None)
        if name == "encode":
            text, coding = arguments
            if coding != "latin1":
                raise self._refused(f"text in {coding}")
            self.stack.append(text.encode("latin1"))
        elif name == "dtype":
            if _text(arguments[0]) not in ("u1", "|u1", "uint8"):
                raise self._refused(f"values of type {arguments[0]}")
            self.stack.append(called)
        elif name == "_reconstruct":
            self.stack.append(_Array())
        else:
            raise self._refused(f"a call of {name}")

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Array):
            return  # the state of a dtype: uint8 has none that matters
        _, shape, _, fortran, content = state
        data = content.encode("latin1") if isinstance(content, str) else content
        values = np.frombuffer(data, dtype=np.uint8)
        target.value = values.reshape(shape, order="F") if fortran else values.reshape(shape)


def images_of(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [N, 32, 32, 3] of rows [N, 3072] that hold the red, green and blue planes."""
    planes = rows.reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def read_binary(
    data: bytes, name: str, label_bytes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(images uint8 [N, 32, 32, 3], labels int64 [N]) of the binary version.

    `label_bytes`: 1 for CIFAR-10; 2 for CIFAR-100, whose second byte is the fine label.
    """
    size = label_bytes + PIXELS
    if not data or len(data) % size:
        raise DataError(
            "the binary file's length does not fit its records", where=name,
            got=f"{len(data)} bytes", expected=f"a multiple of {size}",
        )  # fmt: skip
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)
    return images_of(records[:, label_bytes:]), records[:, label_bytes - 1].astype(np.int64)


def batch_arrays(
    batch: dict[str, Any], name: str, label_key: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(images uint8 [N, 32, 32, 3], labels int64 [N]) of a python batch."""
    rows, labels = batch.get("data"), batch.get(label_key)
    if (
        not isinstance(rows, np.ndarray)
        or rows.ndim != 2
        or rows.shape[1] != PIXELS
        or not isinstance(labels, list)
        or len(labels) != len(rows)
    ):
        raise DataError("not a CIFAR batch", where=name, expected=f"data and {label_key}")
    for label in labels:
        if type(label) is not int or not 0 <= label < LABELS:
            raise DataError(
                "a label is no class number", where=name, got=label,
                expected=f"0 to {LABELS - 1} in {label_key}",
            )  # fmt: skip
    return images_of(rows), np.array(labels, dtype=np.int64)
