"""``mse lab demo``, ``campaign`` and ``bench``: what a laboratory is for.

Registered in the group ``lab`` of ``openmse.cli.lab``.
"""

import sys
from pathlib import Path

import click

from openmse.errors import DriverError


@click.command()
@click.option("--name", default="demo", show_default=True, help="The laboratory's name.")
@click.option("--quick", is_flag=True, help="The main events only, in under three minutes.")
@click.option(
    "--failover-wait",
    type=click.FloatRange(2, 30),
    default=None,
    metavar="SECONDS",
    help="Default 5; 2 with --quick.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("demo-report.html"),
    show_default=True,
)
def demo(name: str, quick: bool, failover_wait: float | None, report: Path) -> None:
    """Build a pair, load it, break it in every way, and show what clients saw.

    Exits with 0 only if nothing acknowledged was lost and never two nodes served.
    """
    from rich.console import Console

    from openmse.lab import demo as runner
    from openmse.lab.demo_screen import print_result, screen_for

    missing = runner.missing_rights()
    if missing:
        raise DriverError(missing, "Run it again with sudo.", is_retryable=False)
    options = runner.DemoOptions(
        name=name,
        is_quick=quick,
        failover_wait_s=failover_wait or (2.0 if quick else 5.0),
        report=report,
        diagnostics=report.with_name(f"{report.stem}-diagnostics"),
    )
    with screen_for(options.exercises) as screen:
        story = runner.run(options, screen)
    console = Console()
    print_result(story, console)
    console.print(f"The timeline: {report.resolve()}")
    if not story.is_good:
        console.print(f"Diagnostics: {options.diagnostics.resolve()}")
        sys.exit(1)
