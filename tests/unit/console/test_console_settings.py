"""The console's settings file: defaults, and faults that name the key."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from openmse.cli.main import root as cli
from openmse.console.errors import ConsoleStoreError
from openmse.console.settings import ConsoleSettings, load, parse
from openmse.errors import ConfigError

FILE = Path("/etc/openmse/console.toml")


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    """A newcomer needs no file at the usual place."""
    usual = tmp_path / "console.toml"
    settings = load(usual, usual=usual)
    assert settings == ConsoleSettings()
    assert settings.shown_url == "https://localhost:8443"
    assert settings.is_sqlite


@pytest.mark.parametrize("by_name", [True, False], ids=["option", "environment"])
@pytest.mark.parametrize("command", ["run", "recover", "backup", "restore"])
def test_a_file_that_is_named_has_to_be_there(command: str, by_name: bool, tmp_path: Path) -> None:
    """The defaults would be another console's: exit 2, and no backup is written over."""
    file, absent = tmp_path / "backup.jsonl", str(tmp_path / "absent.toml")
    file.write_text("the last good one")
    arguments = ["console", command, *(["--config", absent] if by_name else [])]
    arguments += [str(file)] if command in ("backup", "restore") else []
    done = CliRunner(env={"OPENMSE_CONSOLE_CONFIG": absent}).invoke(cli, arguments)
    assert isinstance(done.exception, ConfigError), done.output
    assert (done.exception.code, done.exception.exit_code) == ("MSE-CON-002", 2)
    assert absent in done.exception.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["backup.jsonl"]
    assert file.read_text() == "the last good one"


@pytest.mark.parametrize("command", ["backup", "recover"])
@pytest.mark.parametrize("is_empty", [False, True], ids=["none", "empty"])
def test_without_a_store_nothing_is_saved_and_none_is_made(
    command: str, is_empty: bool, tmp_path: Path
) -> None:
    """Settings that name a directory where no console was: not a byte is written."""
    state, config, file = tmp_path / "state", tmp_path / "console.toml", tmp_path / "backup.jsonl"
    config.write_text(f'[paths]\nstate_dir = "{state}"\n')
    file.write_text("the last good one")
    if is_empty:
        state.mkdir()
        (state / "console.db").touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments = ["console", command, "--config", str(config)]
    done = CliRunner().invoke(cli, [*arguments, *([str(file)] if command == "backup" else [])])
    assert isinstance(done.exception, ConsoleStoreError), done.output
    assert "none was made" in done.exception.sentence
    assert done.exception.exit_code == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert file.read_text() == "the last good one"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[console]\nport = 70000", "console.port"),
        ("[console]\naddress = 'here'", "console.address"),
        ("[console]\nurl = 'http://here'", "console.url"),
        ("[console]\ncolour = 'red'", "colour"),
        ("[tls]\ncert_file = '/a'", "tls"),
        ("[people]\nidle_minutes = 0", "people.idle_minutes"),
        ("[store]\nurl = 'mysql://x'", "store.url"),
        ("[paths]\nstate_dir = 'here'", "paths.state_dir"),
        ("port = ", "file"),
    ],
)
def test_a_fault_names_its_key(text: str, named: str) -> None:
    """And says what the settings are."""
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), FILE)
    assert named in caught.value.sentence
    assert "[console] name" in caught.value.hint
    assert caught.value.exit_code == 2
