"""Which calls only enter code that is under test itself: its own steps are points, the call is none.

The names are those on a simulated stack. Where it is not known what is called, the call counts.
"""

from __future__ import annotations

import collections
import dis
import itertools
from collections.abc import Iterable
from types import CodeType
from typing import Optional

_CONTAINERS = (list, dict, set, str, collections.deque, collections.OrderedDict)
_SHARED = frozenset(itertools.chain.from_iterable(map(dir, _CONTAINERS)))
#: Functions in C that touch nothing another thread could change.
PURE = frozenset({"isinstance", "type", "id", "super", "float", "int", "bool", "getattr"})
_METHOD_CALLS = {"CALL", "CALL_METHOD"}  # a callable and self or NULL lie below the arguments
_FUNCTION_CALLS = {"CALL_FUNCTION"}  # the callable alone
_UNKNOWN = {"PRECALL", "CACHE", "EXTENDED_ARG", "NOP", "KW_NAMES"}


def own_names(codes: Iterable[CodeType]) -> frozenset[str]:
    """Names that mean a function of these codes wherever they are called."""
    return frozenset(code.co_name for code in codes) - _SHARED


def calls_of(code: CodeType, names: frozenset[str]) -> frozenset[int]:
    """The offsets of the calls in `code` that call one of `names`."""
    found = set()
    labels: list[Optional[str]] = []  # of what lies on the stack, the names that are known
    for instruction in dis.get_instructions(code):
        name, argument = instruction.opname, instruction.arg or 0
        if instruction.is_jump_target:
            labels.clear()
        if name in _METHOD_CALLS and _label(labels, argument, 2) in names:
            found.add(instruction.offset)
        if name in _FUNCTION_CALLS and _label(labels, argument, 1) in names:
            found.add(instruction.offset)
        if name not in _UNKNOWN:
            _execute(instruction, labels)
    return frozenset(found)


def _label(labels: list[Optional[str]], arguments: int, width: int) -> Optional[str]:
    under = labels[: len(labels) - arguments][-width:]
    return next((label for label in reversed(under) if label), None)


def _execute(instruction: dis.Instruction, labels: list[Optional[str]]) -> None:
    effect = dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
    loads = instruction.opname.startswith("LOAD_")
    label = str(instruction.argval) if loads else None
    if effect > 0:
        labels += [label] * effect
    else:
        del labels[len(labels) + effect :]
    replaced = 1 if instruction.opname in ("LOAD_METHOD", "LOAD_ATTR") else 0
    if effect <= 0 or replaced:  # the top is another thing now
        depth = max(effect, 0) + 1
        labels[-depth:] = [label] * min(depth, len(labels))
