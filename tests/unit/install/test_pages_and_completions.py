"""Manual pages and completions are what the commands themselves say, and tools can read them."""

import shutil
import subprocess
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


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff (Debian package groff)")
def test_groff_has_no_complaint(tmp_path: Path) -> None:
    for name, page in manual.pages().items():
        if name not in manual.OTHER_NAMES:
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


def test_bash_completes_a_command() -> None:
    script = completion.files()["bash-completion/completions/mse"]
    bash = shutil.which("bash")
    assert bash is not None
    import sys

    here = Path(sys.executable).parent
    line = 'COMP_WORDS=(mse ha swi); COMP_CWORD=2; _mse_completion mse; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        [bash, "-c", f"{script}\n{line}"],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": f"{here}:/usr/bin:/bin"},
        check=False,
    )
    assert done.stdout.split() == ["switchover"], done
