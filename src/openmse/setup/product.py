"""The product's own file: the answers put into its TOML, comments and foreign keys untouched. Pure.

What is written must pass the check that the daemon itself makes (``node.config_load``).
"""

import ipaddress
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from openmse.documents import document
from openmse.errors import ConfigError
from openmse.node.config_load import ConfigFaults, parse
from openmse.setup.modern import BY_ADDRESS, CONSOLE, ETCD_FILES, OTHER_PRIMARY
from openmse.setup.values import NONE, PRIMARY, SECONDARY, View

TEMPLATE = f"""\
# OpenMSE: the configuration of this machine, written by 'mse setup'.
# 'mse config check' says what is wrong with it;
# {document("configuration")} explains every key.
# [group] and [witness] are what a pairing starts with; later: 'mse ha settings', 'mse ha witness'.

[node]
name = ""
role = ""
address = ""
interface = ""
"""


def is_wanted(view: View) -> bool:
    """Whether the answers concern the product's file."""
    get = view.get
    if get("ha.role"):
        return True
    touched = (
        get("hostname.name"),
        get(f"{view.health_interface}.address"),
        get(f"{view.direct_interface}.address"),
    )
    modern = (get("wait.seconds"), get("witness.kind"))
    return view.machine.is_configured and any((*touched, *modern))


def product_text(view: View, text: str | None) -> str:
    """The file with the answers in it. Raises ConfigError where ``text`` is no TOML."""
    document = require_toml(text if text is not None else TEMPLATE)
    _node(document, view)
    _group(document, view)
    _witness(document, view)
    _recovered_ports(document, view)
    return tomlkit.dumps(document)


def require_toml(text: str) -> tomlkit.TOMLDocument:
    """The file as something that can be edited; raises ConfigError."""
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, RecursionError) as error:
        raise ConfigError(
            f"The configuration file is not a valid TOML file: {error}.",
            "Mend that line ('mse config check'); nothing was changed.",
        ) from error


def faults_in(text: str, path: Path) -> list[str]:
    """What the daemon would say against the file, as sentences; empty if nothing."""
    try:
        parse(text, path)
    except ConfigFaults as error:
        return [" ".join((fault.sentence, fault.hint)).strip() for fault in error.faults]
    except ConfigError as error:
        return [error.sentence]
    return []


def node_name(view: View, written: str) -> str:
    """The node's name: it stays as it is once a group knows it."""
    machine = view.machine
    return machine.group_node or view.get("hostname.name") or written or machine.hostname


def _node(document: Container, view: View) -> None:
    node = _table(document, "node")
    _set(node, "name", node_name(view, str(node.get("name", ""))))
    _set(node, "role", view.role)
    _set(node, "interface", view.health_interface)
    address, netmask = view.address(view.health_interface)
    if address and netmask:
        _set(node, "address", ipaddress.IPv4Interface(f"{address}/{netmask}").with_prefixlen)
    address6 = view.machine.founded.get("address6", "")
    if "/" in address6:
        _set(node, "address6", address6)
    _direct(node, view)


def _direct(node: Table, view: View) -> None:
    """The end of the cable between the servers: both keys, or neither."""
    if view.direct_interface == NONE:
        for key in ("direct_interface", "direct_address"):
            node.pop(key, None)
        return
    _set(node, "direct_interface", view.direct_interface)
    address, netmask = view.address(view.direct_interface)
    if address and netmask:
        wanted = ipaddress.IPv4Interface(f"{address}/{netmask}").with_prefixlen
        _set(node, "direct_address", wanted)


def _group(document: Container, view: View) -> None:
    if view.role == SECONDARY:
        if view.get("ha.role") and "group" in document:
            _table(document, "group").pop("virtual_ips", None)
        return
    group = _table(document, "group")
    virtual, netmask = view.virtual
    if virtual and netmask and view.get("ha.role"):
        wanted = ipaddress.IPv4Interface(f"{virtual}/{netmask}").with_prefixlen
        others = [text for text in map(str, group.get("virtual_ips", [])) if ":" in text]
        others = others or view.machine.founded.get("virtual_ips6", "").split()
        _set(group, "virtual_ips", [wanted, *others])
    if view.get("wait.seconds"):
        _set(group, "failover_wait_s", float(view.get("wait.seconds")))


def _recovered_ports(document: Container, view: View) -> None:
    for key, value in view.machine.founded.items():
        section, dot, name = key.partition(".")
        if dot:
            _set(_table(document, section), name, int(value))


def _witness(document: Container, view: View) -> None:
    machine = view.machine
    is_recovered = bool(machine.founded) and view.role == PRIMARY
    kind = view.get("witness.kind") or (machine.witness_kind if is_recovered else "")
    if not kind:
        return
    witness = _table(document, "witness")
    _set(witness, "kind", CONSOLE if kind == OTHER_PRIMARY else kind)
    if kind == OTHER_PRIMARY:
        _set(witness, "host", OTHER_PRIMARY)
    elif witness.get("host") == OTHER_PRIMARY:
        witness.pop("host")
    if kind in BY_ADDRESS:
        _set(witness, "address", view.get("witness.address") or machine.witness_address)
    elif kind != NONE:
        endpoints = view.get("witness.endpoints").split() or list(machine.witness_endpoints)
        _set(witness, "endpoints", endpoints)
        for (key, _), now in zip(ETCD_FILES, machine.witness_files, strict=True):
            answer = view.get(f"witness.{key}") or now
            _set(witness, key, "" if answer == NONE else answer)


def _table(document: Container, name: str) -> Table:
    if name not in document:
        document.append(name, tomlkit.table())
    found = document[name]
    if not isinstance(found, Table):
        raise ConfigError(
            f"'{name}' in the configuration file is not a table.",
            f"Write [{name}] with its keys below it; nothing was changed.",
        )
    return found


def _set(table: Table, key: str, value: Any) -> None:
    """Set a key, and leave it (and its comment) alone where it has that value."""
    if key in table and table[key] == value:
        return
    table[key] = value
