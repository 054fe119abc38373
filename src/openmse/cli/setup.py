"""``mse setup``: the wizard of the first login, re-runnable; also installed as ``mse-setup``."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from openmse import ports
from openmse.cli.machine import config_path, reading_as_root, require_root
from openmse.cli.passwords import password
from openmse.errors import UsageError
from openmse.node.config import PathsSection, Places


@click.command()
@click.option(
    "--answers", default="", metavar="FILE", help="Ask nothing; take the answers from FILE."
)
@click.option("--print-answers", is_flag=True, help="Print what is set now, as an answers file.")
@click.option("--dry-run", is_flag=True, help="Show what would change, as a diff; change nothing.")
@click.option("--accept-red", is_flag=True, help="With --answers: apply although checks are red.")
@click.option("--unpair", is_flag=True, help="On a paired node: dissolve the pair first.")
@click.option(
    "--recover-from",
    default="",
    metavar="ADDRESS",
    help="Take the place of a machine that this address's group has lost ('mse ha readmit' there).",
)
@click.option(
    "--pairing-password-file",
    default="",
    metavar="FILE",
    help="With --recover-from: the password that was set there ('-': stdin).",
)
@click.option(
    "--pairing-port",
    default=ports.PAIRING,
    type=click.IntRange(1, 65_535),
    metavar="PORT",
    show_default=True,
)
@click.option(
    "--root",
    default="/",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Set up the image below DIR instead of this machine.",
)
@click.pass_context
def setup(ctx: click.Context, /, **options: Any) -> None:
    """Set up this machine: host name, high availability, network, DNS, time, witness, passwords.

    Asks the questions of the guide, shows the current value of each, and changes nothing before
    all is answered and confirmed. At any question ^ goes back. May be run again at any time on a
    node that is not paired.
    """
    from openmse.setup.session import Options, Session
    from openmse.setup.terminal import Ended, Terminal

    path = config_path(ctx)
    if not path.is_absolute():
        raise UsageError(
            f"'{path}' is not an absolute path; setup writes the file that the daemon reads.",
            "Name it from '/' on; nothing was changed.",
        )
    root = Path(str(options["root"])).resolve()
    if options["recover_from"]:
        _take_place(path, options, root)
    if root == Path("/") and not (options["dry_run"] or options["print_answers"]):
        require_root("mse setup")
    chosen = Options(
        root=root,
        config=str(path),
        answers=str(options["answers"]),
        is_dry_run=bool(options["dry_run"]),
        accepts_red=bool(options["accept_red"]),
        unpairs=bool(options["unpair"]),
    )
    with reading_as_root("mse setup"):
        session = Session(chosen, Terminal(), lambda file: password(file, "Password"))
    if options["print_answers"]:
        session.print_answers()
        return
    try:
        with _stoppable():
            session.run()
    except Ended as ended:
        raise click.exceptions.Abort from ended
    except KeyboardInterrupt as stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one finds nothing to stop
        how = "how it stands is said above" if session.has_begun else "nothing was changed"
        click.echo(f"\nStopped; {how}.", err=True)
        number = stopped.number if isinstance(stopped, _Signalled) else signal.SIGINT
        sys.exit(128 + number)


class _Signalled(KeyboardInterrupt):
    """Another signal than Ctrl-C's that wants an end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and a lost terminal end the dialogue as Ctrl-C does; what is ignored stays ignored.

    While it applies, the session has handlers of its own.
    """

    def stop(number: int, _frame: object) -> None:
        raise _Signalled(number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_place(path: Path, options: dict[str, Any], root: Path) -> None:
    """The first half of a recovery from the other node; the wizard is the second."""
    from openmse.setup.readmission import readmit, require_new

    if options["dry_run"] or options["print_answers"] or root != Path("/"):
        raise UsageError(
            "--recover-from changes this machine and its group: it goes with none of --dry-run, "
            "--print-answers and --root. Nothing was changed."
        )
    require_root("mse setup --recover-from")
    section = PathsSection()
    places = Places(Path(section.state_dir), Path(section.run_dir))
    require_new(options["recover_from"], config=str(path), places=places)
    secret = password(options["pairing_password_file"], "Password set by 'mse ha readmit'")
    owner, port = options["recover_from"], int(options["pairing_port"])
    click.echo(readmit(owner, port, secret, config=str(path), places=places))


def main() -> None:
    """``mse-setup``: the same command by its own name."""
    from openmse.cli.alias import by_its_own_name
    from openmse.cli.main import run_command

    run_command(by_its_own_name(setup, "mse-setup"), "mse-setup")
