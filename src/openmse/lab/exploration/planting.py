"""How a rule is taken out of the core for a while, to see whether anything notices.

A mutant edits the source of functions of the core and puts the result in their place; the edit
fails loudly when the code it is about has changed. Some rules live in a driver: those are flags of
the model (``planted``). Nothing in production knows of this.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FunctionType, ModuleType

from msgspec import Struct


class Edit(Struct, frozen=True):
    """One function of the core with one piece of its text replaced."""

    module: str
    function: str
    old: str
    new: str


class Mutant(Struct, frozen=True):
    """A rule, removed."""

    name: str
    rule: str
    edits: tuple[Edit, ...] = ()
    planted: frozenset[str] = frozenset()


def one(name: str, rule: str, module: str, function: str, *change: str) -> Mutant:
    """A mutant with a single edit: ``change`` is the old text and the new."""
    old, new = change
    return Mutant(name, rule, (Edit(module, function, old, new),))


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Put the mutant in place of the core's functions for the time being."""
    undo: list[tuple[ModuleType, str, object]] = []
    try:
        for edit in mutant.edits:
            _apply(edit, undo)
        yield
    finally:
        for module, name, original in reversed(undo):
            setattr(module, name, original)


def _apply(edit: Edit, undo: list[tuple[ModuleType, str, object]]) -> None:
    home = import_module(f"openmse.ha.{edit.module}")
    original = getattr(home, edit.function)
    assert isinstance(original, FunctionType)
    source = inspect.getsource(original)
    assert edit.old in source, f"{edit.module}.{edit.function} no longer reads {edit.old!r}"
    space: dict[str, object] = {}
    exec(compile(source.replace(edit.old, edit.new), edit.module, "exec"), home.__dict__, space)
    changed = space[edit.function]
    for module in list(sys.modules.values()):
        is_ours = getattr(module, "__name__", "").startswith("openmse.")
        if is_ours and module.__dict__.get(edit.function) is original:
            undo.append((module, edit.function, original))
            setattr(module, edit.function, changed)
