"""One run of setup: read the machine, ask or read the answers, check, apply. The only conductor."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.errors import ConfigError, DaemonDownError, PrivilegeError
from openmse.node import group as group_file
from openmse.node.config import NodeConfig, PathsSection, Places
from openmse.node.config_load import parse
from openmse.node.control.client import ControlClient
from openmse.node.control.commands import Done, UnpairArgs
from openmse.setup import answers as answers_file
from openmse.setup import product, recovery, texts
from openmse.setup.apply import apply
from openmse.setup.checks import Check, as_lines, is_red, judge
from openmse.setup.current import machine_of
from openmse.setup.errors import BadAnswers, ChecksFailed, SetupRefused
from openmse.setup.files import Files
from openmse.setup.inspect import inspect
from openmse.setup.plan import Change, Plan, Source, Step, as_diff, plan_of, review, with_file
from openmse.setup.system import ImageSystem, MachineSystem, System
from openmse.setup.terminal import Terminal
from openmse.setup.values import Machine, View
from openmse.setup.wizard import Phase, State, answer, begin, checked, script_for
from openmse.setup.world import World, read_entry, read_world, rooted

UNPAIR_WITHIN_S = 180.0
SAVED_NAME = "setup-answers.toml"


class Options(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    root: Path = Path("/")
    config: str = "/etc/openmse/openmse.toml"
    answers: str = ""
    is_dry_run: bool = False
    accepts_red: bool = False
    unpairs: bool = False


class Session:
    """A run on one machine."""

    def __init__(
        self, options: Options, terminal: Terminal, read_password: Callable[[str], str]
    ) -> None:
        """Reads the machine; ``read_password`` a file's. Raises MseError where it cannot."""
        self.options = options
        self._read_password = read_password
        self._terminal = terminal
        root, config = options.root, options.config
        world = read_world(root, config)
        self.places = _places(world.text(config), root)
        self._state_dir = _paths(world.text(config)).state_dir
        self.group = group_file.load(self.places.group)
        self.world = _with_group(world, root, self._group_paths)
        self.machine = self._machine(self.world)
        self.script = script_for(self.machine, self._review)
        self._is_here = root == Path("/")
        self.has_begun = False
        """Whether anything may have been changed: then the terminal has been told how it stands."""

    # -- commands --------------------------------------------------------------------------

    def print_answers(self) -> None:
        """What is set, as an answers file."""
        self._terminal.say(answers_file.answers_text(self.machine).rstrip("\n"))

    def run(self) -> None:
        """Ask, check and apply. Raises MseError; nothing is changed then but where it says so."""
        self._require_readable()
        self._require_unpaired()
        state = self._unattended() if self.options.answers else self._asked()
        if state is None:
            return
        view = self.script.view(state)
        plan = self._open_acts(self._plan(view))
        if self.options.is_dry_run:
            self._terminal.say(as_diff(plan).rstrip("\n"))
            for note in plan.notes:
                self._terminal.say(f"# note: {note}")
            return
        self._apply(view, plan)

    # -- answers ---------------------------------------------------------------------------

    def _asked(self) -> State | None:
        turn = begin(self.script)
        while turn.state.phase not in (Phase.APPLY, Phase.LEFT):
            if turn.state.phase is Phase.CHECKING:
                view = self.script.view(turn.state)
                self._refuse_running(view)
                turn = checked(self.script, turn.state, self._checks(view))
                continue
            turn = answer(self.script, turn.state, self._terminal.ask(turn))
        if turn.text:
            self._terminal.say(turn.screen.rstrip("\n"))
        return turn.state if turn.state.phase is Phase.APPLY else None

    def _unattended(self) -> State:
        values = answers_file.flat(_read(Path(self.options.answers)))
        secrets = {
            path: self._read_password(path)
            for path in answers_file.password_files(self.script, values)
        }
        state = answers_file.state_of(self.script, values, secrets)
        view = self.script.view(state)
        self._refuse_running(view)
        checks = self._checks(view)
        for line in as_lines(checks):
            self._terminal.say(line)
        if is_red(checks) and not self.options.accepts_red:
            raise ChecksFailed(
                "One or more checks are red; nothing was changed.",
                "Mend what they say, or apply all the same with --accept-red.",
            )
        return state

    def _review(self, view: View) -> list[str]:
        return review(self._source(view))

    # -- rules -----------------------------------------------------------------------------

    def _require_readable(self) -> None:
        """Nobody shall answer everything and then hear that the file cannot be edited."""
        text = self.world.text(self.options.config)
        if text is not None:
            product.require_toml(text)

    def _require_unpaired(self) -> None:
        machine, options = self.machine, self.options
        is_lost = bool(machine.founded)  # recovery: paired, but the configuration is gone
        if not machine.peers or is_lost or options.is_dry_run or options.unpairs:
            return
        raise SetupRefused(
            f"This node is paired with {', '.join(machine.peers)}: setup would part it from its "
            "register. Nothing was changed.",
            "'mse setup --unpair' dissolves the pair first; 'mse ha settings' and 'mse ha witness' "
            "change a pair that goes on; 'mse setup --dry-run' only shows.",
        )

    def _refuse_running(self, view: View) -> None:
        """The guide's three lines, and the like for other changes of a running engine."""
        if self.options.is_dry_run or not self._is_running() or not self.machine.is_configured:
            return
        if view.role != self.machine.role:
            self._terminal.say(f"Applying High Availability configuration\n{texts.SWITCHED_ROLES}")
            raise SetupRefused(
                "The role is not changed while the engine runs; nothing was changed.",
                "'mse node stop', then run setup again.",
            )
        if self._moves(view):
            raise SetupRefused(
                "The health monitor runs with the present role, addresses and virtual IP, so none "
                "of them was changed.",
                "'mse node stop', then run setup again.",
            )

    def _moves(self, view: View) -> bool:
        """Whether the running daemon's own name, address or virtual IP would change."""
        if not product.is_wanted(view):
            return False
        text = self.world.text(self.options.config)
        try:
            before = parse(text or "", Path(self.options.config))
        except ConfigError:
            return False
        after = parse(product.product_text(view, text), Path(self.options.config))
        return (before.node, before.group.virtual_ips) != (after.node, after.group.virtual_ips)

    def _is_running(self) -> bool:
        try:
            ControlClient(self.places.control_socket).close()
        except DaemonDownError:
            return False
        except PrivilegeError:
            return True
        return True

    def _checks(self, view: View) -> tuple[Check, ...]:
        """Of an image below a root directory nothing can be probed."""
        if not self._is_here or self.options.is_dry_run:
            return ()
        self._terminal.say("\nChecking this machine and its network ...")
        found = inspect(view, self.world, self._config(view), is_running=self._is_running())
        return judge(view, found)

    # -- applying --------------------------------------------------------------------------

    def _apply(self, view: View, plan: Plan) -> None:
        self.has_begun = True
        if self.options.unpairs and self.machine.peers:
            self._unpair()
            self.group = group_file.load(self.places.group)
            self.world = _with_group(self.world, self.options.root, self._group_paths)
            self.machine = self._machine(self.world)
            self.script = script_for(self.machine, self._review)
            view = View(self.machine, view.answers)
            plan = self._open_acts(self._plan(view))
        if not plan.steps:
            self._terminal.say("Everything is as it shall be; nothing was changed.")
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        with _interruptible() as check:
            files = Files(self.options.root, stamp)
            apply(plan, files, self._system(), self._terminal.say, check)
        stale = [self._system().reread(unit) for unit in plan.rereads]
        self._tell_end(replace(plan, notes=(*plan.notes, *filter(None, stale))))

    def _tell_end(self, plan: Plan) -> None:
        say = self._terminal.say
        say("Success")
        for note in plan.notes:
            say(f"Note: {note}")
        if plan.needs_reboot:
            say(
                "The network settings take effect at the next boot: a reboot is recommended. The "
                "service is started then."
            )
        elif plan.steps and self._is_running():
            say("The health monitor runs; restart it to have the configuration file take effect.")
        elif plan.steps and self._is_here and Path(self.options.config).exists():
            say("The service does not run yet: 'msed start' starts it.")

    def _unpair(self) -> None:
        self._terminal.say("Dissolving the pair")
        with ControlClient(self.places.control_socket) as client:
            done: Done = client.call("unpair", UnpairArgs(), type=Done, within_s=UNPAIR_WITHIN_S)
        self._terminal.say(done.sentence)

    def _open_acts(self, plan: Plan) -> Plan:
        """Without the acts that would change nothing."""
        system = self._system()
        steps = [
            Step(step.name, step.changes, tuple(a for a in step.acts if not system.is_done(a)))
            for step in plan.steps
        ]
        return replace(plan, steps=tuple(step for step in steps if step.changes or step.acts))

    def _system(self) -> System:
        if self._is_here:
            return MachineSystem(self.places, self.options.config)
        return ImageSystem(self.options.root, self.places)

    # -- values ----------------------------------------------------------------------------

    def _machine(self, world: World) -> Machine:
        return machine_of(
            world,
            self.options.config,
            group=self.group,
            register_name=recovery.name_in_register(world.text(self._group_paths[1])),
            has_pairing_password=self.places.pairing_password.exists(),
        )

    @property
    def _saved_path(self) -> str:
        return str(Path(self.options.config).with_name(SAVED_NAME))

    @property
    def _group_paths(self) -> tuple[str, str, str]:
        """The facts of the group and the register, as paths of the machine."""
        names = ("group.json", "register", "register.previous")
        first, second, third = (f"{self._state_dir}/{name}" for name in names)
        return first, second, third

    def _source(self, view: View) -> Source:
        facts, register, _ = self._group_paths
        return Source(
            view=view,
            world=self.world,
            config=self.options.config,
            group=self.group,
            group_path=facts,
            register_path=register,
        )

    def _plan(self, view: View) -> Plan:
        plan = plan_of(self._source(view))
        return with_file(plan, "saved answers", self._saved(view, plan)) if plan.steps else plan

    def _saved(self, view: View, plan: Plan) -> Change:
        """What will be set afterwards, as an answers file beside the product's own."""
        files = dict(self.world.files)
        for change in plan.changes:
            files.pop(change.path, None)
            if change.after is not None:
                files[change.path] = change.after
        machine = self._machine(replace(self.world, files=files))
        before = read_entry(self.options.root, self._saved_path)
        text = answers_file.answers_text(machine) if machine.is_configured else before
        return Change(path=self._saved_path, before=before, after=text, mode=0o600)

    def _config(self, view: View) -> NodeConfig | None:
        """The configuration as it will be; None where none is written."""
        text = self.world.text(self.options.config)
        if product.is_wanted(view):
            text = product.product_text(view, text)
        try:
            return parse(text, Path(self.options.config)) if text is not None else None
        except ConfigError:
            return None


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C, a lost terminal and SIGTERM are noted; what is yielded raises KeyboardInterrupt then.

    So none comes between a change and the note of how it is taken back, and a second Ctrl-C does
    not break off the taking back.
    """
    noted: list[int] = []

    def check() -> None:
        if noted:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda number, _: noted.append(number)) for number in numbers]
    try:
        yield check
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _paths(text: str | None) -> PathsSection:
    import tomllib

    try:
        data: Any = tomllib.loads(text or "").get("paths", {})
        known = {key: data[key] for key in ("state_dir", "run_dir") if key in data}
        return msgspec.convert(known, PathsSection)
    except (ValueError, TypeError, AttributeError, msgspec.MsgspecError):
        return PathsSection()


def _places(text: str | None, root: Path) -> Places:
    paths = _paths(text)
    return Places(rooted(root, paths.state_dir), rooted(root, paths.run_dir))


def _with_group(world: World, root: Path, paths: tuple[str, ...]) -> World:
    files = {path: entry for path, entry in world.files.items() if path not in paths}
    for path in paths:
        entry = read_entry(root, path)
        if entry is not None:
            files[path] = entry
    return replace(world, files=files)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise BadAnswers(
            f"The answers file {path} cannot be read: {reason}.",
            "Name a file as 'mse setup --print-answers' writes it; nothing was changed.",
        ) from error
