"""The console's settings file: defaults, and faults that name the key."""

from pathlib import Path

import pytest

from openmse.console.settings import ConsoleSettings, load, parse
from openmse.errors import ConfigError

FILE = Path("/etc/openmse/console.toml")


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    """A newcomer needs no file."""
    settings = load(tmp_path / "absent.toml")
    assert settings == ConsoleSettings()
    assert settings.shown_url == "https://localhost:8443"
    assert settings.is_sqlite


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
