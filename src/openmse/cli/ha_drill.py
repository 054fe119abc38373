"""``mse ha drill``: a rehearsed switchover and the way back, with a report that is kept."""

from datetime import UTC, datetime

import click
import msgspec

from openmse.cli.drill import Report, Script, kept, rehearse
from openmse.cli.machine import connect, json_option, places, print_json, require_root
from openmse.errors import MseError
from openmse.pki.files import write_file


class DrillFailed(MseError):
    """A rehearsal was broken off; its report says where."""

    code = "MSE-DRL-001"


@click.command()
@click.option("--list", "only_list", is_flag=True, help="Show the reports that were kept.")
@click.option("--settle", default=120.0, show_default=True, metavar="S", help="Wait for SYNC.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def drill(ctx: click.Context, only_list: bool, settle: float, yes: bool, as_json: bool) -> None:
    """Hand the service over and back, as a rehearsal; clients see two short pauses.

    Pre-checks first; breaks off by itself as soon as anything is not as expected. Nothing is lost
    in either case. The report is kept in the state directory.
    """
    directory = places(ctx).drills
    if only_list:
        reports = kept(directory)
        if as_json:
            print_json(reports)
        for report in reports if not as_json else ():
            click.echo(f"{report.started_at}  {report.result:<7} {report.sentence}")
        return
    require_root("mse ha drill")
    if not yes:
        click.confirm("Clients will see two short pauses. Rehearse now?", abort=True, err=True)
    with connect(ctx) as client:
        report = rehearse(client, Script(settle_s=settle), lambda t: click.echo(t, err=True))
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f") + ".json"
    write_file(directory / name, msgspec.json.format(msgspec.json.encode(report)), mode=0o640)
    if as_json:
        print_json(report)
    else:
        _show(report)
    if report.result == "refused":
        raise _refused(report)
    if report.result != "passed":
        raise DrillFailed(report.sentence, f"The report is {directory / name}.")


def _refused(report: Report) -> MseError:
    from openmse.errors import CommandRefused

    return CommandRefused(report.sentence, "Mend that first: 'mse ha doctor'. Nothing was moved.")


def _show(report: Report) -> None:
    for step in report.steps:
        mark = "done" if step.is_done else "FAILED"
        click.echo(f"  {mark:<6} {step.name:<22} {step.ms:>9.0f} ms  {step.sentence}")
    click.echo(report.sentence)
