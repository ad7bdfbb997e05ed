"""Which opcodes a switch of threads matters at, and where CPython delivers exceptions to a thread.

Under the GIL one opcode is one step, and two steps of two threads commute unless both touch the
same state. So a switch is worth trying only before an opcode that touches state another thread can
reach. The choice is made by name, because numbers and specialised forms change from version to
version (3.9 to 3.14 are covered).

Loads of attributes, globals and closure variables count only if some code under test stores that
name after construction: a name that is stored in ``__init__`` alone reads the same in every
interleaving. A call of a function under test is no point, since its steps are. Names which are
written from outside the files under test are therefore not seen, nor are reads by plain comparison
or arithmetic (``a == b``, ``a + b``) of containers; exploring with ``every_opcode=True`` sees them
all, at a price.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Callable, Optional

from .callees import PURE, calls_of, own_names

SWITCH = 1  # another thread may run before this opcode
CHECK = 2  # CPython looks for asynchronous exceptions after this opcode
HOLD = 4  # nothing can be delivered by raising before this opcode
EDGE = 8  # a call that is in another try than the opcode after it: the call itself has to raise
ARM = 16  # an EDGE, or at most two opcodes before one

_CONSTRUCTORS = {"__init__", "_init", "__new__", "__post_init__", "__set_name__", "<module>"}
_STORES = {
    *("STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL"),
    *("DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"),
}
_LOADS = {
    *("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"),
    *("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF"),
}
_ALWAYS = {
    *("STORE_SUBSCR", "DELETE_SUBSCR", "BINARY_SUBSCR", "BINARY_SLICE", "STORE_SLICE"),
    *("CONTAINS_OP", "GET_ITER", "FOR_ITER", "TO_BOOL", "UNARY_NOT"),
    *("LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE", "UNPACK_EX"),
    *("BEFORE_WITH", "SETUP_WITH", "WITH_EXCEPT_START", "BEFORE_ASYNC_WITH", "SETUP_ASYNC_WITH"),
}
_CALLS = {
    *("CALL", "CALL_KW", "CALL_FUNCTION", "CALL_FUNCTION_KW"),
    *("CALL_FUNCTION_EX", "CALL_METHOD"),
}
_BOOLEANS = {"COMPARE_OP", "IS_OP", "CONTAINS_OP", "TO_BOOL", "UNARY_NOT"}
_TESTS = {
    *("POP_JUMP_IF_TRUE", "POP_JUMP_IF_FALSE"),
    *("POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_FORWARD_IF_FALSE"),
    *("POP_JUMP_BACKWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_FALSE"),
    *("JUMP_IF_TRUE_OR_POP", "JUMP_IF_FALSE_OR_POP"),
}
_CHECKS = _CALLS | {"RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE"}
_UNCHECKED_IN_3_9 = {
    *("NOP", "LOAD_FAST", "LOAD_CONST", "STORE_FAST", "POP_TOP", "DUP_TOP", "DUP_TOP_TWO"),
    *("ROT_TWO", "ROT_THREE", "ROT_FOUR", "UNARY_NOT", "IS_OP", "CONTAINS_OP", "JUMP_FORWARD"),
    *("POP_JUMP_IF_TRUE", "POP_JUMP_IF_FALSE", "JUMP_IF_TRUE_OR_POP", "JUMP_IF_FALSE_OR_POP"),
}
#: Whether a call into Python is followed by a check; from 3.11 on there is one as it begins only.
CHECKS_AFTER_PYTHON = sys.version_info < (3, 11)
if CHECKS_AFTER_PYTHON:
    _HELD = {"SETUP_FINALLY", "SETUP_WITH", "BEFORE_ASYNC_WITH", "YIELD_FROM"}
    _CHECKS.add("RETURN_VALUE")
else:
    # Whether RESUME has an event of its own differs between the first run and later ones.
    _HELD = {"RESUME"}


def codes_of(files: Iterable[str]) -> Iterator[CodeType]:
    """All code objects of these source files, nested ones included."""
    for file in files:
        with open(file, encoding="utf-8") as source:
            pending = [compile(source.read(), file, "exec")]
        while pending:
            code = pending.pop()
            pending += [const for const in code.co_consts if isinstance(const, CodeType)]
            yield code


class Points:
    """Finds the points in the code of some files."""

    def __init__(self, files: Iterable[str], every_opcode: bool) -> None:
        codes = list(codes_of(files))
        self._stored = _stored_names(codes)
        self._own = own_names(codes)
        self._every_opcode = every_opcode

    def flags_of(self, code: CodeType) -> dict[int, int]:
        """The flags of each instruction of `code` that has any, by its offset."""
        flags: dict[int, int] = {}
        own_calls = calls_of(code, self._own)
        idle_calls = own_calls | calls_of(code, PURE)
        before = ""
        prefixes: list[int] = []  # an event may come at EXTENDED_ARG or at what it extends
        for instruction in dis.get_instructions(code):
            name, offset = instruction.opname, instruction.offset
            if name == "EXTENDED_ARG":
                prefixes.append(offset)
                continue
            flag = HOLD if name in _HELD else 0
            if self._every_opcode or (offset not in idle_calls and _is_shared(instruction, before, self._stored)):
                flag |= SWITCH
            if _is_checked_after(name) and (CHECKS_AFTER_PYTHON or offset not in own_calls):
                flag |= CHECK
            flags.update((each, flag) for each in (*prefixes, offset))
            prefixes.clear()
            if name not in ("NOP", "CACHE", "COPY"):
                before = name
        _mark_edges(code, flags)
        return {offset: flag for offset, flag in flags.items() if flag}


def _stored_names(codes: Iterable[CodeType]) -> frozenset[str]:
    """The names these codes store outside of constructors: the loads of them are worth a switch."""
    names = set()
    for code in codes:
        for instruction in dis.get_instructions(code):
            shared = "DEREF" in instruction.opname or code.co_name not in _CONSTRUCTORS
            if instruction.opname in _STORES and shared:
                names.add(str(instruction.argval))
    return frozenset(names)


def _is_shared(instruction: dis.Instruction, before: str, stored: frozenset[str]) -> bool:
    name = instruction.opname
    if name in _ALWAYS or name in _CALLS or name in _STORES or name.startswith("INPLACE_"):
        return True
    if name in _LOADS:
        return instruction.argval in stored
    if name == "BINARY_OP":  # += and its kind may change a list in place; 3.14: x[i] as well
        return instruction.argrepr.endswith("=") or instruction.argrepr == "[]"
    return name in _TESTS and before not in _BOOLEANS


def _is_checked_after(name: str) -> bool:
    if sys.version_info < (3, 10):
        return name not in _UNCHECKED_IN_3_9
    if name in _CHECKS or name.startswith("POP_JUMP_BACKWARD"):
        return True
    return sys.version_info < (3, 11) and name.startswith("POP_JUMP_IF")


def _mark_edges(code: CodeType, flags: dict[int, int]) -> None:
    """Mark the calls that are in another try than the opcode after them.

    What CPython delivers after a call is handled where the call is. Raised at the next opcode, it
    would miss the handler. (From 3.11 on; before, the block stack has not changed by then.)
    """
    handler = _handlers(code)
    if handler is None:
        return
    offsets = sorted(flags)
    for place, offset in enumerate(offsets[:-1]):
        after = offsets[place + 1]
        if flags[offset] & CHECK and handler(offset) != handler(after):
            flags[after] |= HOLD
            flags[offset] |= EDGE
            for near in offsets[max(0, place - 2) : place + 1]:  # a PRECALL may lie between
                flags[near] |= ARM


def _handlers(code: CodeType) -> Optional[Callable[[int], Optional[int]]]:
    parse = getattr(dis, "_parse_exception_table", None)
    if parse is None:
        return None
    entries = parse(code)

    def handler(offset: int) -> Optional[int]:
        for entry in entries:
            if entry.start <= offset < entry.end:
                return int(entry.target)
        return None

    return handler
