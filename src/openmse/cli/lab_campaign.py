"""``mse lab demo``, ``campaign`` and ``bench``: what a laboratory is for.

Registered in the group ``lab`` of ``openmse.cli.lab``.
"""

import sys
from pathlib import Path

import click

from openmse import ports
from openmse.errors import DriverError


@click.command()
@click.option("--name", default="demo", show_default=True, help="The laboratory's name.")
@click.option("--quick", is_flag=True, help="The main events only, in under three minutes.")
@click.option("--only", multiple=True, metavar="EVENT", help="Only these events.")
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
@click.option(
    "--console-port",
    type=click.IntRange(0, 65535),
    default=ports.CONSOLE,
    show_default=True,
    metavar="PORT",
    help="Where the web console listens on 127.0.0.1 meanwhile; another port if it is in use.",
)
@click.option("--no-console", is_flag=True, help="Do not open the web console.")
def demo(
    *,
    name: str,
    quick: bool,
    only: tuple[str, ...],
    failover_wait: float | None,
    report: Path,
    console_port: int,
    no_console: bool,
) -> None:
    """Build a pair, load it, break it in every way, and show what clients saw.

    Meanwhile the web console shows the pair: its address and a log-in that may look are printed.
    Exits with 0 only if nothing acknowledged was lost and never two nodes served.
    """
    from rich.console import Console

    from openmse.lab import demo as runner
    from openmse.lab.demo_screen import print_end, screen_for

    missing = runner.missing_rights()
    if missing:
        raise DriverError(missing, "Run it again with sudo.", is_retryable=False)
    options = runner.DemoOptions(
        name=name,
        is_quick=quick,
        failover_wait_s=failover_wait or (2.0 if quick else 5.0),
        report=report,
        diagnostics=report.with_name(f"{report.stem}-diagnostics"),
        only=only,
        console_port=None if no_console else console_port,
    )
    try:
        with screen_for(options.exercises) as screen:
            story = runner.run(options, screen)
    except KeyboardInterrupt:
        click.echo("Stopped; the laboratory is removed.", err=True)
        sys.exit(130)
    ended = print_end(story, Console(), report=report, diagnostics=options.diagnostics)
    sys.exit(ended)


@click.command()
@click.option("--name", default="campaign", show_default=True, help="Used if up, else built.")
@click.option("--runs", type=click.IntRange(min=1), required=True)
@click.option("--seed", type=int, required=True, help="The same seed draws the same faults.")
@click.option(
    "--json",
    "results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("campaign.jsonl"),
    show_default=True,
    help="Results are appended; runs of the same code and seed are not repeated.",
)
@click.option("--failover-wait", type=click.FloatRange(1, 120), default=5.0, show_default=True)
@click.option("--minutes", type=float, default=0.0, help="Stop after this long; go on later.")
@click.option("--pgbench", default=30, show_default=True, help="TPC-B per second; 0 for none.")
@click.option("--keep-going", is_flag=True, help="Do not stop at the first violation.")
def campaign(
    *,
    name: str,
    runs: int,
    seed: int,
    results: Path,
    failover_wait: float,
    minutes: float,
    pgbench: int,
    keep_going: bool,
) -> None:
    """Random faults, alone and overlapping, on a pair under load; every run is checked.

    Exits with 1 on any violation: a lost write, a row that was read and is gone, two nodes present
    at once, a pair that does not come back.
    """
    from openmse.lab import campaign as runner

    options = runner.CampaignOptions(
        name=name,
        runs=runs,
        seed=seed,
        results=results,
        diagnostics=results.with_name(f"{results.stem}-diagnostics"),
        failover_wait_s=failover_wait,
        minutes=minutes,
        pgbench_rate=pgbench,
        is_kept_going=keep_going,
    )
    found = runner.Campaign(options, lambda line: click.echo(line)).run()
    click.echo(f"\n{'fault':52} {'runs':>5} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for fault, count, p50, p99, longest in runner.distribution(found):
        click.echo(f"{fault:52} {count:5} {p50:8.0f} {p99:8.0f} {longest:8.0f}")
    bad = [result for result in found if result.violations]
    writes = sum(result.acknowledged for result in found)
    click.echo(f"{len(found)} runs, {writes:,} acknowledged writes, {len(bad)} with violations")
    for result in bad:
        click.echo(f"VIOLATION in run {result.run}, seed {seed}: {'; '.join(result.violations)}")
    if bad:
        sys.exit(1)


@click.command()
@click.option("--name", default="bench", show_default=True)
@click.option(
    "--json",
    "results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bench/results.jsonl"),
    show_default=True,
)
@click.option("--failover-wait", "waits", type=float, multiple=True, help="Default: 2 and 5.")
@click.option("--only", multiple=True, metavar="EVENT", help="Only these events.")
@click.option("--repetitions", type=int, default=0, help="Default: what the figures demand.")
@click.option("--minutes", type=float, default=0.0, help="Stop after this long; go on later.")
@click.option("--table", is_flag=True, help="Measure nothing, print what there is.")
def bench(
    *,
    name: str,
    results: Path,
    waits: tuple[float, ...],
    only: tuple[str, ...],
    repetitions: int,
    minutes: float,
    table: bool,
) -> None:
    """Measure every figure of the project; appends and resumes on one version of the code."""
    from openmse.errors import UsageError
    from openmse.lab import bench as runner
    from openmse.lab.bench_table import FIGURES, WAITS_S, as_markdown, lines

    unknown = [event for event in only if event not in FIGURES]
    if unknown or any(wait not in WAITS_S for wait in waits):
        raise UsageError(
            f"There is no such figure: {', '.join([*unknown, *(f'{w:g} s' for w in waits)])}.",
            f"Events: {', '.join(FIGURES)}. Failover waits: 2 and 5.",
        )
    options = runner.BenchOptions(
        name=name,
        results=results,
        diagnostics=results.with_name("diagnostics"),
        waits_s=waits or WAITS_S,
        only=only,
        repetitions=repetitions,
        minutes=minutes,
    )
    work = runner.Bench(options, lambda line: click.echo(line, err=True))
    found = work.results() if table else work.run()
    if not found:
        click.echo("Nothing was measured with this version of the code yet.")
        return
    click.echo(as_markdown(found))
    if not all(line.is_met for line in lines(found)):
        sys.exit(1)
