"""The stack machine: agrees with Python's on data, refuses the rest, and stays within its bounds."""

from __future__ import annotations

import collections
import io
import pickle
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import unpickle
from training.unpickle import Budget, Call, Record, SnapshotError, Unpickler, check_extent


def load(data: bytes, admitted=None, persistent_load=None):
    return Unpickler(memoryview(data), admitted or {}, Budget(2**20), persistent_load).load()


def plain(value):
    """The value with byte views as bytes, as Python's unpickler gives them."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return value


scalars = (
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text() | st.binary()
)
keys = st.text() | st.integers(-(2**31) + 1, 2**31 - 1)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.sets(keys)
        | st.frozensets(keys)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(values, st.integers(4, 5))
def test_agrees_with_python(value, protocol):
    loaded = load(pickle.dumps(value, protocol))
    assert plain(loaded) == value
    check_extent(loaded)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_agrees_with_python_in_all_protocols(protocol):
    shared = ["once", "twice"]
    value = {
        "a": [1, 300, 70000, -5, 1.5, True, None],
        "b": (shared, shared),
        "c": (),
        "d": ((1,), (1, 2), (1, 2, 3, 4)),
    }
    loaded = load(pickle.dumps(value, protocol))
    assert loaded == value
    assert loaded["b"][0] is loaded["b"][1]


def test_long_text_and_bytes_are_not_copied():
    data = pickle.dumps(b"x" * 100_000, 4)
    loaded = load(data)
    assert isinstance(loaded, memoryview)
    assert bytes(loaded) == b"x" * 100_000
    assert load(pickle.dumps("y" * 100_000, 4)) == "y" * 100_000


def test_admitted_calls_and_records():
    data = pickle.dumps(collections.OrderedDict(a=1), 2)
    admitted = {"collections.OrderedDict": Call(lambda items=(): dict(items))}
    assert load(data, admitted) == {"a": 1}
    built = b"\x80\x02cm\nC\n)R}X\x01\x00\x00\x00aK\x07sb."
    assert load(built, {"m.C": Call(lambda: Record("C"))}) == Record("C", {"a": 7})


class Evil:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def by_name(module: str, name: str) -> bytes:
    return b"\x80\x04" + b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name)) + b"\x93)R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("numpy", "load"),
        ("__main__", "<lambda>"),
        ("torch.serialization", "os.system"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("training.unpickle", "Unpickler"),
    ],
)
def test_globals_are_refused_by_name(module, name):
    with pytest.raises(SnapshotError, match=f"refused: the global '{module}.{name}'"):
        load(by_name(module, name))
    with pytest.raises(SnapshotError, match=f"refused: the global '{module}.{name}'"):
        load(f"\x80\x02c{module}\n{name}\n.".encode("latin-1"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_of_the_system_is_not_made(protocol, tmp_path):
    import os

    with pytest.raises(SnapshotError, match=r"refused: the global '\w+\.system'"):
        load(pickle.dumps(Evil(os.system, f"touch {tmp_path}/here"), protocol))
    assert not list(tmp_path.iterdir())


INT = b"K\x01"
UNUSABLE = {
    "nothing": (b"", "cut off"),
    "no stop": (b"\x80\x04N", "cut off"),
    "protocol 0": (b"I1\n.", "operation INT"),
    "future protocol": (b"\x80\x09N.", "protocol 9"),
    "extension": (b"\x80\x02\x82\x01.", "operation EXT1"),
    "instance": (b"(ios\nsystem\n.", "operation INST"),
    "object": (b"(o.", "operation OBJ"),
    "new object with keywords": (b")\x92.", "operation NEWOBJ_EX"),
    "long of four length bytes": (b"\x8b\xff\xff\xff\x7f.", "operation LONG4"),
    "unknown operation": (b"\xff.", "operation 255"),
    "two values": (INT * 2 + b".", "other than one value"),
    "no value": (b".", "other than one value"),
    "open mark": (b"(K\x01.", "other than one value"),
    "mark that is not there": (b"K\x01t.", "makes no sense"),
    "pops from below a mark": (b"]K\x01(a.", "more values than there are"),
    "puts nothing": (b"q\x00.", "more values than there are"),
    "puts from below a mark": (b"K\x01(q\x00.", "more values than there are"),
    "memo that is not there": (b"h\x05.", "makes no sense"),
    "appends to a dictionary": (b"}K\x01a.", "fills a dict like a list"),
    "sets items of a list": (b"]K\x01K\x02s.", "fills a list like a dict"),
    "odd items": (b"}(K\x01u.", "makes no sense"),
    "tuple as key": (b"})K\x01s.", "key or set element of type tuple"),
    "float as key": (b"}G\x00\x00\x00\x00\x00\x00\x00\x00K\x01s.", "key or set element of type float"),
    "large integer as key": (b"}\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x1fK\x01s.", "key or set element of type int"),
    "tuple in a set": (b"\x8f()\x90.", "key or set element of type tuple"),
    "tuple in a frozen set": (b"()\x91.", "key or set element of type tuple"),
    "calls a number": (b"K\x01)R.", "calls a int"),
    "calls without a tuple": (b"cm\nf\n]R.", "calls a Call"),
    "attributes of a list": (b"]}b.", "attributes of a list"),
    "attributes of a function": (b"cm\nf\n}b.", "attributes of a Call"),
    "slots of a record": (b"cm\nC\n)R}}\x86b.", "no dictionary"),
    "attributes by number": (b"cm\nC\n)R}K\x01K\x01sb.", "no dictionary"),
    "persistent id": (b"K\x01Q.", "BINPERSID"),
    "global that is no text": (b"K\x01K\x01\x93.", "refused: the global '1.1'"),
    "global without end": (b"c" + b"x" * 1000, "makes no sense"),
    "text that is none": (b"\x8c\x01\xff.", "makes no sense"),
    "huge bytes": (b"\x8e" + struct.pack("<Q", 2**62) + b"x.", "cut off"),
    "huge text": (b"\x8d" + struct.pack("<Q", 2**62) + b"x.", "cut off"),
    "huge frame": (b"\x95" + struct.pack("<Q", 2**62) + b"N.", "frame"),
    "wrong arguments": (b"cm\nf\nK\x01\x85R.", "makes no sense"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_pickles_get_one_sentence(case):
    data, message = UNUSABLE[case]
    with pytest.raises(SnapshotError, match=message) as caught:
        load(data, {"m.f": Call(lambda: 1), "m.C": Call(lambda: Record("C"))})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_messages_stay_short_and_printable():
    with pytest.raises(SnapshotError) as caught:
        load(b"c" + b"\x1b[2J\r" * 20 + b"\nname\n.")
    assert str(caught.value).isprintable()
    assert len(str(SnapshotError("x" * 10**6))) == unpickle.MAX_MESSAGE
    assert str(SnapshotError("a\nb\x07")) == "a?b?"


def test_a_huge_memo_index_costs_nothing():
    assert load(b"K\x07r\xff\xff\xff\xffj\xff\xff\xff\xff\x86.") == (7, 7)


def test_operations_are_bounded():
    budget = Budget(0, operations=1000)
    with pytest.raises(SnapshotError, match="pickle operations"):
        Unpickler(memoryview(b"N" * 10**6), {}, budget).load()
    assert Budget(0).operations == unpickle.MAX_OPERATIONS


def test_depth_is_bounded():
    deep = b"]" * 300 + b"a" * 299 + b"."
    with pytest.raises(SnapshotError, match="nests more deeply"):
        check_extent(load(deep))
    very_deep = b"]" * 10_000 + b"a" * 9_999 + b"."
    with pytest.raises(SnapshotError, match="nests more deeply"):
        check_extent(load(very_deep))


def test_repeated_references_are_bounded():
    """A list of two references to a list of two references and so on: a short file, an endless walk."""
    references = [b"h" + bytes([index]) for index in range(60)]
    data = b"(]\x94K\x01a" + b"".join(b"]\x94(" + reference * 2 + b"e" for reference in references) + b"t."
    with pytest.raises(SnapshotError, match="refers to itself more often"):
        check_extent(load(data))


def test_cycles_are_refused():
    with pytest.raises(SnapshotError, match="contains itself"):
        check_extent(load(b"]\x94h\x00a."))
    with pytest.raises(SnapshotError, match="contains itself"):
        check_extent(load(b"}\x94X\x01\x00\x00\x00a]h\x00as."))


def test_extent_of_shared_parts():
    shared = [1, 2]
    check_extent({"a": shared, "b": shared, "c": Record("C", {"shared": (shared, shared)})})
    check_extent([])
    check_extent(7)


def test_extent_counts_what_a_walk_meets():
    value: list = [0] * 1000
    for _ in range(3):
        value = [value] * 10
    check_extent(value)
    with pytest.raises(SnapshotError):
        check_extent([value, value, value])
    assert unpickle.MAX_VALUES == 2_000_000


def test_position_after_one_of_several_pickles():
    file = io.BytesIO()
    for value in ("first", ["second"]):
        pickle.dump(value, file, 2)
    reader = Unpickler(memoryview(file.getvalue()), {}, Budget(0))
    assert reader.load() == "first"
    assert Unpickler(reader.data, {}, Budget(0), position=reader.position).load() == ["second"]
