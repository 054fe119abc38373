"""Manual pages and completions are what the commands themselves say, and tools can read them."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from openmse.install import completion, manual

PAGES = Path(__file__).resolve().parents[3] / "docs" / "man"


def test_the_pages_in_the_repository_are_true() -> None:
    wanted = manual.pages()
    found = {path.name: path.read_text() for path in PAGES.iterdir()}
    assert sorted(found) == sorted(wanted), "run 'make man'"
    assert [name for name in wanted if found[name] != wanted[name]] == [], "run 'make man'"


def test_every_command_has_its_page() -> None:
    names = set(manual.pages())
    assert {"mse.1", "msed.8", "msed-start.8", "mse-ha-switchover.1", "mse-install.1"} <= names
    assert not [name for name in names if "unit-stop" in name], "what only units call has none"


def test_nothing_of_the_text_is_taken_for_a_request() -> None:
    for name, page in manual.pages().items():
        for line in page.splitlines():
            if line.startswith((".", "'")):
                word = line.split()[0]
                assert word in (".TH", ".SH", ".B", ".TP", ".PP", ".nf", ".fi", ".so"), (name, line)


def test_pages_lead_to_pages_that_exist() -> None:
    """Each program has a page of its own, which says what else it is called and where more is."""
    pages = manual.pages()
    leads: dict[str, list[str]] = {}
    for name, page in pages.items():
        _, _, ends = page.partition(".SH SEE ALSO\n")
        found = re.findall(r"\\fB(\S+?)\\fR\((\d)\)", ends)
        leads[name] = [f"{title}.{section}".replace("\\-", "-") for title, section in found]
        assert leads[name], name
        assert [lead for lead in leads[name] if lead not in pages or lead == name] == [], name
    for program, command in (("getserverinfo", "mse server-info"), ("gethainfo", "mse ha-info")):
        own, other = f"{program}.1", f"{command.replace(' ', '-')}.1"
        assert f"\n.B {program}\n" in pages[own]
        assert "\\-\\-config" in pages[own], "an option that the command has from 'mse'"
        assert other in leads[own]
        assert own in leads[other]
        assert f"\n.B {program}\n" in pages[other]
    assert "\n.B mse setup\n" in pages["mse-setup.1"]
    assert "\n.B mse\\-setup\n" in pages["mse-setup.1"]
    assert {"mse-setup.1", "getserverinfo.1", "gethainfo.1"} <= set(leads["msed.8"])


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff (Debian package groff)")
def test_groff_has_no_complaint(tmp_path: Path) -> None:
    for name, page in manual.pages().items():
        (tmp_path / name).write_text(page)
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shells_take_the_completions(tmp_path: Path) -> None:
    checked = 0
    for path, text in completion.files().items():
        shell = path.split("/", 1)[0].removesuffix("-completion")
        program = shutil.which(shell)
        if program is None:
            continue
        file = tmp_path / "completion"
        file.write_text(text)
        done = subprocess.run(
            [program, "-n", str(file)], capture_output=True, text=True, timeout=30
        )
        assert (done.returncode, done.stderr) == (0, ""), path
        checked += 1
    assert checked, "bash at least is everywhere"


HERE = Path(sys.executable).parent
OFFERED = ("status", "switchover", "takeover", "pair", "events", "journal")


def test_bash_completes_a_command() -> None:
    script = completion.files()["bash-completion/completions/mse"]
    bash = shutil.which("bash")
    assert bash is not None
    line = 'COMP_WORDS=(mse ha swi); COMP_CWORD=2; _mse_completion mse; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        [bash, "-c", f"{script}\n{line}"],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": f"{HERE}:/usr/bin:/bin"},
        check=False,
    )
    assert done.stdout.split() == ["switchover"], done


@pytest.mark.parametrize(
    ("program", "typed", "offered"),
    [
        ("mse-setup", "--recov", ["--recover-from"]),
        ("getserverinfo", "--js", ["--json"]),
        ("gethainfo", "--conf", ["--config"]),
        ("msed", "rest", ["restart"]),
    ],
)
def test_bash_completes_the_other_programs(program: str, typed: str, offered: list[str]) -> None:
    script = completion.files()[f"bash-completion/completions/{program}"]
    function = f"_{program.replace('-', '_')}_completion"
    line = f"COMP_WORDS=({program} {typed}); COMP_CWORD=1; {function} {program}; "
    done = subprocess.run(
        ["/bin/bash", "-c", f'{script}\n{line} echo "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": f"{HERE}:/usr/bin:/bin"},
        check=False,
    )
    assert done.stdout.split() == offered, done
    assert "setup.sh" not in " ".join(completion.files()), "a TAB must not run a stranger's script"


def installed(tmp_path: Path) -> Path:
    """The completion files, as an installation has them below ``share``."""
    for name, text in completion.files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish (Debian package fish)")
def test_fish_offers_the_commands(tmp_path: Path) -> None:
    file = installed(tmp_path) / "fish/vendor_completions.d/mse.fish"
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {file}; complete -C 'mse ha '"],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": f"{HERE}:/usr/bin:/bin", "HOME": str(tmp_path)},
        check=False,
    )
    offered = dict(line.split("\t") for line in done.stdout.splitlines())
    assert set(OFFERED) <= set(offered), done
    assert offered["maintenance"].startswith("While on, the owner serves"), "commas do not cut it"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh (Debian package zsh)")
def test_zsh_offers_the_commands_at_every_tab(tmp_path: Path) -> None:
    with Typed(["zsh", "-f", "-i"], tmp_path) as zsh:
        zsh.type("PS1='REA''DY> '; fpath=($PWD/zsh/site-functions $fpath)\n")
        zsh.type("autoload -Uz compinit; compinit -u -D; print LOA''DED\n")
        zsh.wait("LOADED")
        zsh.type("mse ha \t")
        zsh.wait(*(f"\n{word} " for word in OFFERED))
        for typed, wanted in (("mse ha swi", "switchover"), ("mse ha fai", "failback")):
            zsh.type(f"\x15{typed}\t")
            zsh.wait(wanted)


class Typed:
    """A shell at a terminal of 120 columns, in whose place we type."""

    def __init__(self, argv: list[str], home: Path) -> None:
        env = {
            "PATH": f"{HERE}:/usr/bin:/bin",
            "HOME": str(home),
            "TERM": "xterm",
            "PWD": str(home),
        }
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        self._shell = subprocess.Popen(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=installed(home),
            env=env,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> "Typed":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)
        self._shell.kill()
        self._shell.wait(10)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def wait(self, *words: str, within_s: float = 60.0) -> None:
        """Until all ``words`` have appeared; a terminal may be read in pieces."""
        screen, deadline = "", time.monotonic() + within_s
        while missing := [word for word in words if word not in screen.replace("\x1b[J", "")]:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"no {missing} in {screen!r}"
            if select.select([self._ours], [], [], left_s)[0]:
                screen += os.read(self._ours, 65_536).decode(errors="replace")
