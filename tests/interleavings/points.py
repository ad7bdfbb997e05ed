"""Which opcodes a switch of threads can matter at, and after which CPython delivers asynchronous exceptions.

Under the GIL one opcode is one step, and two steps of two threads commute unless both touch the same state. So a
switch is worth trying only before an opcode that touches state another thread can reach. The choice is made by
name, because numbers and specialised forms change from version to version (3.9 to 3.14 are covered).

Loads of attributes, globals and closure variables count only if some code under test stores that name after
construction: a name that is stored in ``__init__`` alone reads the same in every interleaving. Names which are
written from outside the files under test are therefore not seen, nor are reads by plain comparison or arithmetic
(``a == b``, ``a + b``) of containers; exploring with ``every_opcode=True`` sees them all, at a price.
"""

import dis
import sys
from collections.abc import Iterable, Iterator
from types import CodeType

SWITCH = 1  # another thread may run before this opcode
CHECK = 2  # CPython looks for asynchronous exceptions after this opcode
HOLD = 4  # the second half of a call: nothing is delivered before it

_CONSTRUCTORS = {"__init__", "__new__", "__post_init__", "__set_name__", "<module>"}
_STORES = {"STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"}
_LOADS = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF"}
_ALWAYS = {
    *("STORE_SUBSCR", "DELETE_SUBSCR", "BINARY_SUBSCR", "BINARY_SLICE", "STORE_SLICE"),
    *("CONTAINS_OP", "GET_ITER", "FOR_ITER", "TO_BOOL", "UNARY_NOT"),
    *("LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE", "UNPACK_EX"),
    *("BEFORE_WITH", "SETUP_WITH", "WITH_EXCEPT_START", "BEFORE_ASYNC_WITH", "SETUP_ASYNC_WITH"),
}
_CALLS = {"CALL", "PRECALL", "CALL_KW", "CALL_FUNCTION", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX", "CALL_METHOD"}
_BOOLEANS = {"COMPARE_OP", "IS_OP", "CONTAINS_OP", "TO_BOOL", "UNARY_NOT"}
_TESTS = ("POP_JUMP_IF_TRUE", "POP_JUMP_IF_FALSE", "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_FORWARD_IF_FALSE")
_TESTS += ("POP_JUMP_BACKWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_FALSE", "JUMP_IF_TRUE_OR_POP", "JUMP_IF_FALSE_OR_POP")
_CHECKS = _CALLS | {"RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE"}
_HOLDS = {("PRECALL", "CALL")}


def codes_of(files: Iterable[str]) -> Iterator[CodeType]:
    """All code objects of these source files, nested ones included."""
    for file in files:
        with open(file, encoding="utf-8") as source:
            pending = [compile(source.read(), file, "exec")]
        while pending:
            code = pending.pop()
            pending += [const for const in code.co_consts if isinstance(const, CodeType)]
            yield code


def stored_names(codes: Iterable[CodeType]) -> "frozenset[str]":
    """The names that these codes store outside of constructors: the loads of them are worth a switch."""
    names = set()
    for code in codes:
        for instruction in dis.get_instructions(code):
            shared = "DEREF" in instruction.opname or code.co_name not in _CONSTRUCTORS
            if instruction.opname in _STORES and shared:
                names.add(str(instruction.argval))
    return frozenset(names)


def flags_of(code: CodeType, stored: "frozenset[str]", every_opcode: bool = False) -> "dict[int, int]":
    """The flags of each instruction of `code` that has any, by its offset."""
    flags: "dict[int, int]" = {}
    before = ""
    prefixes: "list[int]" = []  # an event may come at the EXTENDED_ARG or at the opcode that it extends
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name == "EXTENDED_ARG":
            prefixes.append(instruction.offset)
            continue
        held = (before, name) in _HOLDS
        flag = HOLD if held else 0
        if not held and (every_opcode or _is_shared(instruction, before, stored)):
            flag |= SWITCH
        if name in _CHECKS or _is_checking_jump(name):
            flag |= CHECK
        if flag:
            flags.update((offset, flag) for offset in (*prefixes, instruction.offset))
        prefixes.clear()
        if name not in ("NOP", "CACHE", "COPY"):
            before = name
    return flags


def _is_shared(instruction: dis.Instruction, before: str, stored: "frozenset[str]") -> bool:
    name = instruction.opname
    if name in _ALWAYS or name in _CALLS or name in _STORES or name.startswith("INPLACE_"):
        return True
    if name in _LOADS:
        return instruction.argval in stored
    if name == "BINARY_OP":  # 3.11 on: += and its kind may change a list in place; 3.14: x[i] as well
        return instruction.argrepr.endswith("=") or instruction.argrepr == "[]"
    return name in _TESTS and before not in _BOOLEANS


def _is_checking_jump(name: str) -> bool:
    if name.startswith("POP_JUMP_BACKWARD"):
        return True  # 3.11
    return sys.version_info < (3, 11) and name.startswith("POP_JUMP_IF")
