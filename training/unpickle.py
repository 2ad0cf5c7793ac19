"""A reader of pickles that runs nothing: it knows a fixed table of globals and never imports by name.

A pickle is a program for a small stack machine. This is that machine, cut down to what data needs: numbers,
text, byte strings, containers, and calls of the admitted functions that the caller hands in. Whatever else a
file asks for is refused by name. Work, memory and nesting are bounded, so a hostile file costs no more than a
small multiple of its size. `training.checkpoint_file` holds the table for network files.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_OPERATIONS = 400_000
"""Operations of one file, nested files included. A full-size published snapshot has about 30,000."""
MAX_VALUES = 2_000_000
"""Values that a walk through the result may meet; values that are referred to twice are met twice."""
MAX_DEPTH = 200
"""Containers within containers. Published snapshots reach about 40."""
MAX_INTEGER = 2**31
"""Integer keys stay below this, so that no file can choose keys that collide in a dictionary."""
MAX_MESSAGE = 2000


def printable(text: str, length: int) -> str:
    """At most so much of a text, with a `?` for every character that a terminal would act on."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:length])


class SnapshotError(ValueError):
    """A file that cannot be used as a snapshot; the message names the file and the reason in one line.

    What the message quotes may come from the file, so it is cut to a bearable length and made printable.
    """

    def __init__(self, message: str):
        super().__init__(printable(message, MAX_MESSAGE))


@dataclass(frozen=True)
class Call:
    """An admitted function. It must be safe for any arguments that a file may give."""

    function: Callable[..., Any]


@dataclass
class Record:
    """An object of a class that is not ours, as inert data: the name of its class and its attributes."""

    class_name: str
    state: dict[str, Any] = field(default_factory=dict)

    def build(self, state: object) -> None:
        """Take the attributes that the file stores for the object."""
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise SnapshotError(f"the attributes of {self.class_name} are no dictionary")
        self.state.update(state)


@dataclass
class Budget:
    """What one file may still cost, nested files included."""

    tensor_bytes: int
    operations: int = MAX_OPERATIONS

    def spend_operation(self) -> None:
        """Count one operation of the stack machine."""
        self.operations -= 1
        if self.operations < 0:
            raise SnapshotError(f"more than {MAX_OPERATIONS} pickle operations")

    def spend_tensor(self, nbytes: int) -> None:
        """Count the memory of one tensor."""
        self.tensor_bytes -= nbytes
        if self.tensor_bytes < 0:
            raise SnapshotError("its tensors claim far more memory than the file has bytes")


def checked_key(key: Any) -> Any:
    """The key itself, if it is text or a small integer: nothing else may be hashed.

    Hashing a tuple walks through all that it holds, which a few nested references make endless.
    """
    if isinstance(key, str) or (isinstance(key, int) and abs(key) < MAX_INTEGER):
        return key
    raise SnapshotError(f"a key or set element of type {type(key).__name__}")


class Unpickler:
    """Reads one pickle from `data`, beginning at `position`; after `load`, `position` is behind its end.

    admitted: "module.name" -> `Call`, or a value that stands for that global.
    persistent_load: the meaning of a persistent id; None refuses them.
    Byte strings come back as views of `data`, without a copy.
    """

    def __init__(
        self,
        data: memoryview,
        admitted: Mapping[str, Any],
        budget: Budget,
        persistent_load: Callable[[Any], Any] | None = None,
        position: int = 0,
    ):
        self.data = data
        self.admitted = admitted
        self.budget = budget
        self.persistent_load = persistent_load
        self.position = position
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the pickle.

        Raises SnapshotError for what is not admitted, and for bytes that are no pickle.
        """
        try:
            while (operation := self._take(1)[0]) != STOP:
                self.budget.spend_operation()
                self._step(operation)
            if len(self.stack) != 1 or self.marks:
                raise SnapshotError("it ends with other than one value")
            return self.stack.pop()
        except SnapshotError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
            RuntimeError,
            struct.error,
        ) as bad:
            raise SnapshotError(f"it makes no sense at byte {self.position} ({type(bad).__name__})") from bad

    def _step(self, operation: int) -> None:
        if operation in CONSTANTS:
            self.stack.append(CONSTANTS[operation])
        elif operation in CONTAINERS:
            self.stack.append(CONTAINERS[operation]())
        elif operation in NUMBERS:
            self.stack.append(self._number(NUMBERS[operation]))
        elif operation in TEXTS:
            self.stack.append(str(self._take(self._number(TEXTS[operation])), "utf-8"))
        elif operation in BYTES:
            self.stack.append(self._take(self._number(BYTES[operation])))
        elif operation in TUPLES:
            self.stack.append(tuple(self._pop_many(TUPLES[operation])))
        elif operation in PUTS:
            self.memo[self._number(PUTS[operation])] = self._top()
        elif operation in GETS:
            self.stack.append(self.memo[self._number(GETS[operation])])
        elif operation in ACTIONS:
            ACTIONS[operation](self)
        else:
            raise SnapshotError(f"refused: pickle operation {OPERATION_NAMES.get(operation, operation)}")

    # Reading bytes

    def _take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            raise SnapshotError("it is cut off: a value reaches beyond the end")
        start, self.position = self.position, end
        return self.data[start:end]

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        window = bytes(self.data[self.position : self.position + 256])
        length = window.index(b"\n")
        return str(self._take(length + 1)[:length], "utf-8")

    # The stack

    def _floor(self) -> int:
        return self.marks[-1] if self.marks else 0

    def _pop_many(self, count: int) -> list[Any]:
        start = len(self.stack) - count
        if start < self._floor():
            raise SnapshotError("it takes more values than there are")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _pop(self) -> Any:
        return self._pop_many(1)[0]

    def _pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self) -> Any:
        if len(self.stack) <= self._floor():
            raise SnapshotError("it takes more values than there are")
        return self.stack[-1]

    def _target(self, kind: type) -> Any:
        target = self._top()
        if not isinstance(target, kind):
            raise SnapshotError(f"it fills a {type(target).__name__} like a {kind.__name__}")
        return target

    # Operations that do something

    def _protocol(self) -> None:
        protocol = self._number("B")
        if not 2 <= protocol <= 5:
            raise SnapshotError(f"pickle protocol {protocol} is not one of 2 to 5")

    def _frame(self) -> None:
        if self._number("<Q") > len(self.data) - self.position:
            raise SnapshotError("it is cut off: a frame reaches beyond the end")

    def _mark(self) -> None:
        self.marks.append(len(self.stack))

    def _memoize(self) -> None:
        self.memo[len(self.memo)] = self._top()

    def _long(self) -> None:
        self.stack.append(int.from_bytes(self._take(self._number("B")), "little", signed=True))

    def _tuple(self) -> None:
        self.stack.append(tuple(self._pop_to_mark()))

    def _frozenset(self) -> None:
        self.stack.append(frozenset(map(checked_key, self._pop_to_mark())))

    def _extend(self, items: list[Any]) -> None:
        self._target(list).extend(items)

    def _add_items(self) -> None:
        items = self._pop_to_mark()
        self._target(set).update(map(checked_key, items))

    def _set_items(self, items: list[Any]) -> None:
        target = self._target(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def _global(self, module: object, name: object) -> None:
        full_name = f"{module}.{name}"
        if not isinstance(module, str) or not isinstance(name, str) or full_name not in self.admitted:
            raise SnapshotError(f"refused: the global {full_name[:200]!r}, which is none that network files need")
        self.stack.append(self.admitted[full_name])

    def _call(self) -> None:
        function, arguments = self._pop_many(2)
        if not isinstance(function, Call) or not isinstance(arguments, tuple):
            raise SnapshotError(f"refused: it calls a {type(function).__name__}")
        self.stack.append(function.function(*arguments))

    def _build(self) -> None:
        state = self._pop()
        target = self._top()
        if hasattr(target, "build"):
            target.build(state)
        elif not isinstance(target, dict) or not isinstance(state, dict):  # a dictionary's own attributes do not matter
            raise SnapshotError(f"refused: it sets attributes of a {type(target).__name__}")

    def _persistent(self) -> None:
        if self.persistent_load is None:
            raise SnapshotError("refused: pickle operation BINPERSID")
        self.stack.append(self.persistent_load(self._pop()))


def _codes(table: dict[str, Any]) -> dict[int, Any]:
    """The table by operation byte, from a table by the operation's name in `pickletools`."""
    return {code: table[name] for code, name in OPERATION_NAMES.items() if name in table}


OPERATION_NAMES = {ord(operation.code): operation.name for operation in pickletools.opcodes}
STOP = ord(".")
CONSTANTS = _codes({"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()})
CONTAINERS = _codes({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set})
NUMBERS = _codes({"BININT": "<i", "BININT1": "<B", "BININT2": "<H", "BINFLOAT": ">d"})
TEXTS = _codes({"SHORT_BINUNICODE": "<B", "BINUNICODE": "<I", "BINUNICODE8": "<Q"})
BYTES = _codes({"SHORT_BINBYTES": "<B", "BINBYTES": "<I", "BINBYTES8": "<Q", "BYTEARRAY8": "<Q"})
TUPLES = _codes({"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3})
PUTS = _codes({"BINPUT": "<B", "LONG_BINPUT": "<I"})
GETS = _codes({"BINGET": "<B", "LONG_BINGET": "<I"})
ACTIONS: dict[int, Callable[[Unpickler], None]] = _codes(
    {
        "PROTO": Unpickler._protocol,
        "FRAME": Unpickler._frame,
        "MARK": Unpickler._mark,
        "MEMOIZE": Unpickler._memoize,
        "LONG1": Unpickler._long,
        "TUPLE": Unpickler._tuple,
        "FROZENSET": Unpickler._frozenset,
        "APPEND": lambda machine: machine._extend([machine._pop()]),
        "APPENDS": lambda machine: machine._extend(machine._pop_to_mark()),
        "ADDITEMS": Unpickler._add_items,
        "SETITEM": lambda machine: machine._set_items(machine._pop_many(2)),
        "SETITEMS": lambda machine: machine._set_items(machine._pop_to_mark()),
        "GLOBAL": lambda machine: machine._global(machine._line(), machine._line()),
        "STACK_GLOBAL": lambda machine: machine._global(*machine._pop_many(2)),
        "REDUCE": Unpickler._call,
        "NEWOBJ": Unpickler._call,
        "BUILD": Unpickler._build,
        "BINPERSID": Unpickler._persistent,
    }
)


def check_extent(root: Any) -> None:
    """Returns if the value is a finite tree of bearable depth and size; so whoever walks it comes to an end.

    Values that are referred to twice count twice. Raises SnapshotError otherwise.
    """
    extents: dict[int, tuple[int, int]] = {}
    within: set[int] = set()
    pending = [(root, False)]
    while pending:
        value, leaving = pending.pop()
        if id(value) in extents:
            continue
        parts = _parts(value)
        if leaving:
            depths, counts = zip(*(extents.get(id(part), (0, 1)) for part in parts), strict=True)
            extents[id(value)] = depth, count = 1 + max(depths), 1 + sum(counts)
            within.discard(id(value))
            if depth > MAX_DEPTH or count > MAX_VALUES:
                raise SnapshotError("it nests more deeply, or refers to itself more often, than any network does")
        elif parts:
            if id(value) in within:
                raise SnapshotError("a part of it contains itself")
            within.add(id(value))
            pending.append((value, True))
            pending.extend((part, False) for part in parts if _parts(part))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, Record):
        return list(value.state.values())
    return []
