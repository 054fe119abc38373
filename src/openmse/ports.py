"""The one table of default ports: what listens where, and for whom.

``docs/ports.md`` is written from it. Every number can be changed in a configuration file, those of
a node on both nodes alike. Nothing is imported here but the typing of a table.
"""

from typing import NamedTuple


class Port(NamedTuple):
    """One listening port: ``setting`` is the key of the configuration file that changes it."""

    number: int
    transport: str
    listener: str
    setting: str
    purpose: str
    file: str = "openmse.toml"
    """The configuration files with that setting."""


NODE_TLS = 8461
NODE_UDP = 8462
WITNESS_TLS = 8463
WITNESS_UDP = 8464
PAIRING = 8465
MANAGEMENT = 8466
CONSOLE = 8443
POSTGRESQL = 5432

TABLE = (
    Port(
        NODE_TLS,
        "TCP",
        "node",
        "ports.node_tls",
        "Register and control messages between the two nodes, mutual TLS.",
    ),
    Port(
        NODE_UDP,
        "UDP",
        "node",
        "ports.node_udp",
        "Heartbeats and leases between the two nodes, and the witness's answers; authenticated.",
    ),
    Port(
        WITNESS_TLS,
        "TCP",
        "witness",
        "ports.witness_tls",
        "Register messages from the nodes to the witness, mutual TLS.",
        "openmse.toml, witness.toml",
    ),
    Port(
        WITNESS_UDP,
        "UDP",
        "witness",
        "ports.witness_udp",
        "Heartbeats and lease renewals from the nodes to the witness; authenticated.",
        "openmse.toml, witness.toml",
    ),
    Port(
        PAIRING,
        "TCP",
        "node, witness",
        "ports.pairing",
        "Pairing and enrolling by password (PAKE); on a node open only while one is expected, on a "
        "witness always.",
        "openmse.toml, witness.toml",
    ),
    Port(
        MANAGEMENT,
        "TCP",
        "node",
        "management.port",
        "The management API of a node (HTTPS), for the console, for programs, and for a primary "
        "that asks a secondary what machine it is.",
        "management.toml",
    ),
    Port(
        CONSOLE,
        "TCP",
        "console",
        "console.port",
        "The web console (HTTPS), for people and for programs.",
        "console.toml",
    ),
    Port(
        POSTGRESQL,
        "TCP",
        "node",
        "database.port",
        "PostgreSQL: clients through the virtual IP, replication between the nodes.",
    ),
)


def as_markdown() -> str:
    """The page ``docs/ports.md``: the table for people who set up a firewall."""
    lines = [
        "# Default ports",
        "",
        "Written from `src/openmse/ports.py`; do not edit by hand.",
        "",
        "| port | transport | listens on | setting | file | for |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {port.number} | {port.transport} | {port.listener} | `{port.setting}` | {port.file} "
        f"| {port.purpose} |"
        for port in TABLE
    ]
    return "\n".join(lines) + "\n"
