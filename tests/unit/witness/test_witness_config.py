"""The witness's configuration: read back as written, faults in sentences, nothing guessed."""

from pathlib import Path

import pytest

from openmse import ports
from openmse.errors import ConfigError
from openmse.witness.config import WitnessConfig, as_toml, load, parse

PATH = Path("/etc/openmse/witness.toml")


def test_defaults_are_those_of_the_table() -> None:
    config = parse(b"", PATH)
    assert config.ports.witness_tls == ports.WITNESS_TLS
    assert config.ports.witness_udp == ports.WITNESS_UDP
    assert config.ports.pairing == ports.PAIRING


def test_what_init_writes_is_read_back() -> None:
    text = b'[witness]\nname = "w-1"\naddress = "fd00::13"\n[paths]\nstate_dir = "/a \\"b\\""\n'
    config = parse(text, PATH)
    assert config.paths.state_dir == '/a "b"'
    assert parse(as_toml(config).encode(), PATH) == config
    assert parse(as_toml(WitnessConfig()).encode(), PATH) == WitnessConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[witness]\nnmae = 'x'", "unknown field `nmae`"),
        ("[wintess]", "unknown field `wintess`"),
        ("[ports]\npairing = '8465'", "ports.pairing: Expected `int`, got `str`."),
        ("[witness", "is not a valid TOML file"),
        ("[witness]\naddress = 'localhost'", "'localhost' is not a literal address"),
        ("[witness]\nname = 'a b'", "'a b' cannot be a name"),
        ("[ports]\nwitness_udp = 70000", "70000 is not a port"),
        ("[ports]\nwitness_tls = 8465", "8465 is the port of [ports] witness_tls too"),
        ("[paths]\nrun_dir = 'run'", "'run' is not an absolute path"),
        ("\xff", "is not a text file in UTF-8"),
    ],
)
def test_faults_are_told_in_sentences(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text.encode("latin-1"), PATH)
    assert said in error.value.sentence
    assert str(PATH) in error.value.sentence


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration file"):
        load(tmp_path / "none.toml")
