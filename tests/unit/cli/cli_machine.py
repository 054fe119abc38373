"""A machine for the command line: its file, its daemon with the real core, its exit codes."""

import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import LiveCore, NoPairing

from openmse.cli.main import main


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


class CliMachine:
    """Runs ``mse`` in this process, against a configuration file in ``directory``."""

    def __init__(self, directory: Path, capsys: object) -> None:
        self.directory = directory
        self.config = directory / "openmse.toml"
        self._capsys = capsys
        self.core: LiveCore | None = None
        self.pairing: NoPairing | None = None
        self.write()

    @property
    def socket(self) -> Path:
        """Where its daemon answers."""
        return self.directory / "run" / "control.sock"

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.directory / "state"

    def write(self, role: str = "primary", extra: str = "", node: str = "") -> None:
        """Write the configuration file."""
        (self.directory / "run").mkdir(exist_ok=True)
        virtual = '[group]\nvirtual_ips = ["10.10.10.10/24"]\n' if role == "primary" else ""
        self.config.write_text(
            f'[node]\nname = "mse1"\nrole = "{role}"\naddress = "10.10.10.11/24"\n{node}\n'
            f"{virtual}\n[paths]\n"
            f'state_dir = "{self.state}"\nrun_dir = "{self.directory / "run"}"\n{extra}'
        )

    def run(self, *arguments: str) -> Ran:
        """Run a command to its end."""
        try:
            main(["--config", str(self.config), *arguments])
            code: object = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        out, err = self._capsys.readouterr()  # type: ignore[attr-defined]
        assert isinstance(code, int)
        return Ran(code, out, err)
