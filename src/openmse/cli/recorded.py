"""The audit of what root changes with ``mse admin``: the API's own file, the same entries."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from openmse.api.audit import Audit, AuditEntry
from openmse.api.errors import outcome_of
from openmse.api.people import Scope
from openmse.api.store import ManagementPlaces
from openmse.errors import MseError
from openmse.node.runtime.event_log import wall_now

NAME_MAX = 64


@contextmanager
def recorded(kept: ManagementPlaces, action: str, args: dict[str, Any]) -> Iterator[None]:
    """Write down a change before it is made, and how it ended.

    Raises AuditUnavailable before anything has changed, or what the change raises. What cannot be
    written afterwards is told, since the change is made.
    """
    audit = Audit(kept)
    audit.write(_entry(action, args, "begun"))
    failure: MseError | None = None
    result = "failed"
    try:
        yield
        result = "done"
    except MseError as error:
        failure, result = error, outcome_of(error).state
        raise
    finally:
        try:
            audit.write(_entry(action, args, result, failure))
        except MseError as error:
            click.echo(f"The audit lacks how it ended: {error.sentence}", err=True)


def _entry(
    action: str, args: dict[str, Any], result: str, error: MseError | None = None
) -> AuditEntry:
    return AuditEntry(
        at=wall_now(),
        who=_who(),
        scope=Scope.ADMINISTER.value,
        from_address="this machine",
        action=action,
        args=args,
        result=result,
        code=error.code if error is not None else "",
        sentence=error.sentence if error is not None else "",
    )


def _who() -> str:
    """Root, and through sudo also who asked for it."""
    name = os.environ.get("SUDO_USER", "")
    is_name = 0 < len(name) <= NAME_MAX and name.isprintable()
    return f"root for {name} (mse admin)" if is_name else "root (mse admin)"
