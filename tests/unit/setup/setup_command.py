"""``mse setup`` run in this process, on a machine that is a directory."""

import io
from pathlib import Path

import pytest

from openmse.cli.main import main

CONFIG = """\
# ours
[node]
name = "mse1"
role = "primary"
address = "10.10.10.12/24"
interface = "eth0"

[group]
virtual_ips = ["10.10.10.11/24"]
"""


class Ran:
    """What a command came to."""

    def __init__(self, code: object, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Setup:
    """Runs ``mse setup`` below a root directory."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def run(self, *arguments: str, typed: str = "") -> Ran:
        source = io.StringIO(typed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", source)
            try:
                main(["setup", "--root", str(self.root), *arguments])
                code: object = 0
            except SystemExit as leaving:
                code = leaving.code
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)

    def answers(self, text: str, *arguments: str) -> Ran:
        path = self.root / "answers.toml"
        path.write_text(text)
        try:
            return self.run("--answers", str(path), *arguments)
        finally:
            path.unlink()
