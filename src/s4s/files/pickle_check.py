"""What a pickle would cost to load, told from its instructions alone.

A pickle of a few hundred bytes can name tuples that share one another, so that hashing one takes 2^40 steps, or ask for tensors
and storages of any size. Its instructions are followed here as `pickletools.dis` follows them. All that is known of what stands
on the stack are the steps that hashing it takes, its integers and texts, and which function made it.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Collection, Iterator, Sequence
from typing import IO, Any

from s4s.errors import shortened

INSTRUCTIONS = 500_000  # published files have some 100 000
STEPS = 5_000_000  # of hashing keys, and of functions over their arguments
DIMENSIONS = 16
NAME = 200  # characters of a module or of a function
BITS = 128  # of an integer; random generators record such
TENSORS = frozenset(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))
# what pickle has written since protocol 2, and what each takes from the stack
TAKES = {
    **dict.fromkeys(("PROTO", "FRAME", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"), 0),
    **dict.fromkeys(("BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINBYTES"), 0),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_SET", "GLOBAL"), 0),
    **dict.fromkeys(("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE", "TUPLE", "POP_MARK"), 0),
    **dict.fromkeys(("TUPLE1", "POP", "STOP", "BINPERSID", "APPENDS", "SETITEMS", "ADDITEMS"), 1),
    **dict.fromkeys(("TUPLE2", "APPEND", "REDUCE", "NEWOBJ", "BUILD", "STACK_GLOBAL"), 2),
    **dict.fromkeys(("TUPLE3", "SETITEM"), 3),
}
TO_THE_MARK = {"TUPLE", "POP_MARK", "APPENDS", "SETITEMS", "ADDITEMS"}


class _Slot:
    """What stands on the stack: a text, an integer or a tuple of slots as itself; of others, what they are or who made them."""

    __slots__ = ("inside", "made", "steps", "value")

    def __init__(self, value: Any = None, steps: int = 1, made: str = ""):
        self.value, self.steps, self.made = value, steps, made
        self.inside = 0  # steps to hash all that it holds, if it grows


def check_pickle(file: IO[bytes], room: int, calls: Collection[str] | None, sets: Collection[str]) -> None:
    """Read one pickle up to its end, and refuse it where loading it would take far more than a network's weights take.

    Args:
        room: bytes that its tensors and storages may be of.
        calls: the functions and classes that it may call; None leaves that to who loads it.
        sets: those of them whose results it may give a state.
    Raises:
        pickle.UnpicklingError, ValueError: if it does, or is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, _Slot] = {}
    marks: list[int] = []
    steps = 0
    instructions: Iterator[tuple[Any, Any, Any]] = pickletools.genops(file)
    for count, (instruction, argument, _) in enumerate(instructions):
        name = instruction.name
        if count > INSTRUCTIONS:
            raise pickle.UnpicklingError("far more objects than a network has")
        if name not in TAKES:
            raise pickle.UnpicklingError(f"the instruction {name}, which no file of weights has")
        items: list[_Slot] = []
        if name in TO_THE_MARK:
            start = _last(marks)
            items, stack[start:] = stack[start:], []
        taken = [_last(stack) for _ in range(TAKES[name])][::-1]
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if argument is None else argument
            if place > count:
                raise pickle.UnpicklingError("far more objects than a network has")
            memo[place] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name.startswith("TUPLE") or name == "EMPTY_TUPLE":
            parts = items + taken
            stack.append(_Slot(parts, 1 + sum(part.steps for part in parts)))
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"):
            holder, *given = taken + items
            hashed = given[::2] if name.startswith("SET") else given if name == "ADDITEMS" else []
            steps += sum(part.steps for part in hashed)
            holder.inside += sum(part.steps for part in given)
            stack.append(holder)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            words = argument.split(" ", 1) if name == "GLOBAL" else [part.value for part in taken]
            if not all(isinstance(word, str) and len(word) <= NAME for word in words):
                raise pickle.UnpicklingError("a name that is none")
            stack.append(_Slot(made=".".join(words)))
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = taken
            if calls is not None and function.made not in calls:
                raise pickle.UnpicklingError(f"GLOBAL {shortened(function.made)} is called")
            if not isinstance(arguments.value, list):
                raise pickle.UnpicklingError("a call whose arguments are not written down")
            if function.made in TENSORS:
                _check_tensor([part.value for part in arguments.value], room)
            steps += sum(part.steps + part.inside for part in arguments.value)
            stack.append(_Slot(made=f"{function.made}()"))
        elif name == "BUILD":
            if taken[0].made.removesuffix("()") not in sets:
                raise pickle.UnpicklingError("a state of what has none")
            stack.append(taken[0])
        elif name == "BINPERSID":
            _check_storage(taken[0].value, room)
            stack.append(_Slot())
        elif name in ("BININT", "BININT1", "BININT2", "LONG1"):
            if argument.bit_length() > BITS:
                raise pickle.UnpicklingError(f"an integer of {argument.bit_length()} bits")
            stack.append(_Slot(argument))
        elif name not in ("PROTO", "FRAME", "POP", "POP_MARK", "STOP"):
            stack.append(_Slot(argument if isinstance(argument, str) else None))
        if steps > STEPS:
            raise pickle.UnpicklingError("parts that share one another far more often than those of a network do")


def _last(stack: list[Any]) -> Any:
    if not stack:
        raise pickle.UnpicklingError("it takes more than it gives")
    return stack.pop()


def _check_tensor(arguments: Sequence[Any], room: int) -> None:
    """Of (storage, offset, sizes, strides, ...): it lies within its storage, which no one makes larger for it."""
    offset, lists = arguments[1:2], arguments[2:4]
    if len(lists) != 2 or not all(isinstance(given, list) for given in lists):
        raise pickle.UnpicklingError("a tensor whose size is not written down")
    sizes, strides = ([part.value for part in given] for given in lists)
    numbers = [*offset, *sizes, *strides]
    whole = all(type(number) is int and 0 <= number <= room for number in numbers)
    if not whole or not len(sizes) == len(strides) <= DIMENSIONS:
        raise pickle.UnpicklingError(f"a tensor of size {shortened(str(sizes))} from {room} bytes")
    elements, last = 1, offset[0]
    for size, stride in zip(sizes, strides, strict=True):
        elements, last = elements * size, last + (size - 1) * stride
    if elements and max(elements, last + 1) > room:
        raise pickle.UnpicklingError(f"a tensor of size {shortened(str(sizes))} from {room} bytes")


def _check_storage(about: Any, room: int) -> None:
    """Of ("storage", type, key, place, number of elements, ...)."""
    numbers = [part.value for part in about if isinstance(part.value, int)] if isinstance(about, list) else [room + 1]
    if any(not 0 <= number <= room for number in numbers):
        raise pickle.UnpicklingError(f"a storage that is larger than the file of {room} bytes")
