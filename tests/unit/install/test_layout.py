"""What an installation consists of: the same for a machine and for the Debian package."""

import re
import tomllib
from pathlib import Path

from openmse.install import package
from openmse.install.layout import Destination, layout, packaged
from openmse.node.config_load import parse

CONFIGURATION = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_example_is_the_one_that_the_documents_explain() -> None:
    block = re.search(r"```toml\n(.*?)```", CONFIGURATION.read_text(), re.DOTALL)
    assert block is not None
    text = packaged("openmse.toml.example")
    assert text.endswith(block[1]), "copy it from docs/configuration.md"
    assert tomllib.loads(text) == tomllib.loads(block[1])
    assert parse(text, Path("example")).node.name == "mse1"


def test_no_path_is_named_twice_and_all_are_absolute() -> None:
    found = layout(Destination(python="/x/bin/python3", bin_dir="/x/bin", commands=("mse", "msed")))
    paths = [item.path for item in (*found.directories, *found.files, *found.links)]
    assert len(paths) == len(set(paths))
    assert all(path.is_absolute() for path in paths)


def test_commands_that_are_in_place_are_not_linked() -> None:
    found = layout(
        Destination(python="/usr/local/bin/python3", bin_dir="/usr/local/bin", commands=("mse",))
    )
    assert not [link for link in found.links if link.path.name == "mse"]


def test_the_package_leaves_enabling_to_its_scripts_and_local_files_to_the_machine() -> None:
    wanted = package.package_layout()
    names = {str(item.path) for item in (*wanted.files, *wanted.links)}
    assert not [name for name in names if name.startswith(("/etc/systemd/", "/usr/local/"))]
    assert "/usr/lib/systemd/system/openmse.service" in names
    assert "/usr/bin/msed" in names
    assert package.conffiles(wanted).split() == [
        "/etc/init.d/msed",
        "/etc/init.d/openmse-console",
        "/etc/init.d/openmse-witness",
        "/etc/logrotate.d/openmse",
        "/etc/openmse/openmse.toml.example",
    ]
    assert wanted.accounts == ()


def test_its_scripts_fetch_nothing_and_remove_no_data() -> None:
    for name in package.SCRIPTS:
        script = packaged(f"deb.{name}")
        assert script.startswith("#!/bin/sh\n")
        assert "\nset -e\n" in script
        assert not re.search(r"\b(rm|curl|wget|pip|apt|apt-get|userdel|deluser)\b", script), name
