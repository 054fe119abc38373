"""What has happened: the event log and the decision journal."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec

from openmse.cli.machine import connect, json_option, places, print_json
from openmse.errors import DaemonDownError, MseError, UsageError
from openmse.node.control.commands import JournalFlushed
from openmse.node.runtime import event_log

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@click.command()
@click.option("--since", default="", metavar="WHEN", help="30m, 2h, 1d, or an ISO date and time.")
@click.option("--limit", "-n", default=0, metavar="N", help="Only the newest N.")
@json_option
@click.pass_context
def events(ctx: click.Context, since: str, limit: int, as_json: bool) -> None:
    """What has happened on this node. Reads the files: works with the daemon down."""
    path = places(ctx).events
    entries = event_log.read(path, since=_since(since), limit=max(0, limit))
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        where = f" [{entry.term}.{entry.epoch}]" if entry.epoch else ""
        click.echo(f"{entry.at}  {entry.severity:<7} {entry.kind}{where}: {entry.sentence}")
    if not entries:
        when = " since then" if since else ""
        click.echo(f"No events are recorded in {path}{when}.", err=True)


def _since(text: str) -> str:
    """An ISO instant in UTC, or '' ; raises UsageError."""
    if not text:
        return ""
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    try:
        if ago:
            at = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            at = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"'{text}' is no point in time.", "Write 30m, 2h, 1d, or 2026-01-31T03:00."
        ) from error
    return at.isoformat(timespec="milliseconds")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def journal(ctx: click.Context, as_json: bool) -> None:
    """The decision journal. Without a command: write what is in memory, list the files."""
    if ctx.invoked_subcommand is not None:
        return
    _flush(ctx)
    found = [
        {"file": str(path), "bytes": path.stat().st_size, "at": _changed(path)}
        for path in _files(ctx)
    ]
    if as_json:
        print_json(found)
        return
    for row in found:
        click.echo(f"{row['at']}  {row['bytes']:>10} bytes  {row['file']}")
    if not found:
        click.echo("The journal is empty.", err=True)


def _flush(ctx: click.Context) -> None:
    """Ask the daemon to write what it holds; without a daemon there is nothing to write."""
    try:
        with connect(ctx) as client:
            client.call("flush_journal", type=JournalFlushed)
    except DaemonDownError:
        click.echo("The daemon does not run: showing what it wrote before.", err=True)


def _files(ctx: click.Context) -> list[Path]:
    from openmse.node.runtime.journal import files

    return files(places(ctx).journal)


def _changed(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")


@journal.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False))
@json_option
@click.pass_context
def replay(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> None:
    """Run recorded events through the core again; exit 1 where it decides otherwise."""
    from openmse.ha.node import step
    from openmse.node.runtime.replay import replay as run

    if not files:
        _flush(ctx)
    paths = [Path(file) for file in files] or _files(ctx)
    results = [run(path, step) for path in paths]
    if as_json:
        print_json(results)
    for result in results if not as_json else ():
        click.echo(
            f"{result.file}: {result.steps} steps in {result.segments} segments, "
            f"{len(result.differences)} decided otherwise, {result.damaged} unreadable lines"
        )
        for difference in result.differences[:3]:
            click.echo(f"  line {difference.line}: {difference.event}")
            click.echo(f"    recorded: {'; '.join(difference.recorded) or 'nothing'}")
            click.echo(f"    replayed: {'; '.join(difference.replayed) or 'nothing'}")
    if any(result.differences for result in results):
        raise ReplayDiffers(
            "The core decides otherwise than was recorded.",
            "That is expected after an upgrade; with the same version it is a mistake of ours: "
            "please report it with the journal.",
        )


class ReplayDiffers(MseError):
    """A replay gave other effects than were recorded."""

    code = "MSE-JRN-001"


@journal.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--decisions", is_flag=True, help="Only steps that decided something.")
@json_option
def show(file: str, decisions: bool, as_json: bool) -> None:
    """The steps in a journal file, one line each; with --json one JSON value a line."""
    from openmse.cli.journal_steps import shown, step_of
    from openmse.node.runtime.replay import Reader

    for entry, effects in shown(Reader(Path(file)), decisions=decisions):
        if as_json:
            click.echo(msgspec.json.encode(step_of(entry, effects)).decode())
            continue
        event = entry.event
        click.echo(f"{entry.line:>6} {event.at / 1e9:.6f} {type(event).__name__} {event!r}")
        for effect in effects:
            click.echo(f"         -> {effect!r}")
