"""The rendered configuration keeps the rules of protocol §5."""

from dataclasses import replace
from pathlib import Path

import pytest

from openmse.errors import ConfigError
from openmse.node.drivers.postgres.settings import (
    MIB,
    InstanceSettings,
    TlsFiles,
    peer_conninfo,
    render_dynamic,
    render_fixed,
    render_hba,
    render_ident,
    render_main,
    sync_names,
)

SETTINGS = InstanceSettings(
    group="mse1",
    node_id="mse1",
    peer_id="mse2",
    peer_address="10.10.10.2",
    data_dir=Path("/var/lib/openmse/data"),
    state_dir=Path("/var/lib/openmse/state"),
    socket_dir=Path("/run/openmse"),
    port=5432,
    tls=TlsFiles(
        server_cert=Path("/etc/o/server.crt"),
        server_key=Path("/etc/o/server.key"),
        client_cert=Path("/etc/o/client.crt"),
        client_key=Path("/etc/o/client.key"),
        authority=Path("/etc/o/ca.crt"),
    ),
)


def values(text: str) -> dict[str, str]:
    pairs = (line.split(" = ", 1) for line in text.splitlines())
    return {name: value[1:-1].replace("''", "'") for name, value in pairs}


def fixed(disk_gib: int = 100, major: int = 17) -> dict[str, str]:
    text = render_fixed(
        SETTINGS, major=major, directory_id="ab12cd34", disk_bytes=disk_gib * 1024 * MIB
    )
    return values(text)


def test_the_rules_of_the_protocol_are_in_it() -> None:
    rendered = fixed()
    expected = {
        "allow_alter_system": "off",
        "restart_after_crash": "off",
        "wal_retrieve_retry_interval": "20ms",
        "wal_receiver_status_interval": "1s",
        "checkpoint_timeout": "5min",
        "hot_standby": "on",
        "full_page_writes": "on",
        "wal_log_hints": "on",
        "fsync": "on",
        "synchronous_commit": "on",
        "ssl": "on",
        "cluster_name": "mse1.ab12cd34",
        "listen_addresses": "*",
        "max_slot_wal_keep_size": "10240MB",
    }
    assert {name: rendered[name] for name in expected} == expected
    assert 3 <= int(rendered["wal_sender_timeout"].removesuffix("s")) <= 5
    assert 3 <= int(rendered["wal_receiver_timeout"].removesuffix("s")) <= 5


@pytest.mark.parametrize("disk_gib", [1, 4, 100, 10_000])
def test_the_log_never_takes_more_than_half_of_a_disk(disk_gib: int) -> None:
    rendered = fixed(disk_gib)
    names = ("wal_keep_size", "max_slot_wal_keep_size", "max_wal_size")
    total_mib = sum(int(rendered[name].removesuffix("MB")) for name in names)
    assert total_mib <= disk_gib * 1024 // 2


def test_older_servers_get_no_setting_they_do_not_know() -> None:
    assert "allow_alter_system" not in fixed(major=16)


def test_names_and_receiver_are_switched_by_themselves() -> None:
    on = values(render_dynamic(SETTINGS, names=True, receiver=True, generation="7"))
    off = values(render_dynamic(SETTINGS, names=False, receiver=False, generation="8"))
    assert on["synchronous_standby_names"] == 'FIRST 1 ("mse2")'
    assert "sslmode=\\'verify-full\\'" not in on["primary_conninfo"]
    assert "sslmode='verify-full'" in on["primary_conninfo"]
    assert off["synchronous_standby_names"] == ""
    assert off["primary_conninfo"] == ""
    assert (on["openmse.generation"], off["openmse.generation"]) == ("7", "8")


def test_only_replication_carries_the_name_that_commits_wait_for() -> None:
    assert "application_name='mse1' " in peer_conninfo(SETTINGS)
    assert "application_name='mse1 backup' " in peer_conninfo(SETTINGS, purpose="backup")
    assert "password" not in peer_conninfo(SETTINGS)


def test_odd_names_are_quoted() -> None:
    odd = replace(SETTINGS, peer_id='a"b')
    assert sync_names(odd) == 'FIRST 1 ("a""b")'
    quoted = replace(SETTINGS, peer_tls_name="it's")
    assert "host='it\\'s'" in peer_conninfo(quoted)


def test_nobody_comes_in_without_tls() -> None:
    lines = render_hba(SETTINGS).splitlines()
    for line in lines:
        kind, method = line.split()[0], line.split()[4 if line.startswith("host") else 3]
        assert kind in ("local", "hostssl") or method == "reject"
        assert method in ("peer", "reject", "cert", "scram-sha-256")
        if kind == "local" and method != "reject":
            assert "openmse_admin" in line


def test_the_monitor_and_the_peer_are_mapped() -> None:
    text = render_ident(SETTINGS, system_users=("root", "openmse", "root"))
    assert text.count('local "root" openmse_admin') == 1
    assert 'nodes "openmse_replication" openmse_replication' in text
    with pytest.raises(ConfigError):
        render_ident(SETTINGS, system_users=("/.*",))


def test_ours_has_the_last_word_over_local_tuning() -> None:
    text = render_main(SETTINGS)
    assert text.index("local.conf'") < text.index("openmse.conf'") < text.index("dynamic.conf'")


@pytest.mark.parametrize(
    "changes",
    [{"port": 80}, {"socket_dir": Path("/" + "x" * 100)}, {"client_auth": "trust"}],
)
def test_impossible_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(SETTINGS, **changes)  # type: ignore[arg-type]
