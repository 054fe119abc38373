"""Both screens against every transcript of the guide, line by line, with the guide's own values."""

from datetime import UTC, datetime

import guide_transcripts as guide
import pytest

from openmse.platform.status import ha_info, server_info
from openmse.platform.status.ha_info import FourFields, HaInfo, PeerInfo
from openmse.platform.status.server_info import (
    ContextAware,
    Moment,
    ServerConfig,
    ServerInfo,
    ServerMonitor,
    ServiceInfo,
    ServicesState,
    Session,
    TrapDestination,
)

HA_SCREENS = 17
"""How many gethainfo screens the guide has."""


def ha_value(screen: list[str]) -> HaInfo:
    """The values of a screen, found by their labels."""
    blocks: list[list[str]] = [[]]
    for line in screen:
        if line.startswith("Peer configuration#"):
            blocks.append([])
        blocks[-1].append(line)
    base = dict(guide.values(blocks[0]))
    last = dict(guide.values(blocks[-1]))
    is_running = "Current state" in last
    virtual = base["Virtual IP Address"]
    return HaInfo(
        is_running=is_running,
        role=base["Server role"].lower(),
        address=base["Health Monitor IP Address"],
        virtual_ip="" if virtual.startswith("Not Applicable") else virtual,
        version=base["Version"],
        udi=base["UDI"],
        state=last["Current state" if is_running else "Last shutdown state"],
        peers=tuple(peer_value(block) for block in blocks[1:]),
    )


def peer_value(block: list[str]) -> PeerInfo:
    found = dict(guide.values(block))
    address = next(line for line in block if line.startswith("Health Monitor IP Address"))
    heartbeat = found.get("Heartbeat status")
    return PeerInfo(
        address=address.rpartition(" ")[2],
        virtual_ip=found["Virtual IP Address"],
        version=found["Version"],
        udi=found["UDI"],
        failover_type=found["Failover type"].lower(),
        failback_type=found["Failback type"].lower(),
        failover_wait_s=float(found["Failover wait time (seconds)"]),
        instance_name=found["Instance database name"],
        instance_port=int(found["Instance database port"]),
        replication_name=found["Dataguard configuration name"],
        primary_alias=found["Primary database alias"],
        is_direct=found["Direct connect used"] == "Yes",
        is_heartbeat_up=None if heartbeat is None else heartbeat == "Up",
    )


@pytest.mark.parametrize("number", range(HA_SCREENS))
def test_gethainfo_prints_what_the_guide_prints(number: int) -> None:
    screens = guide.ha_screens()
    assert len(screens) == HA_SCREENS
    guide.check_same(ha_info.render(ha_value(screens[number])), screens[number])


def test_the_transcripts_hold_every_case_that_is_promised() -> None:
    found = [ha_value(screen) for screen in guide.ha_screens()]
    assert {one.role for one in found} == {"primary", "secondary"}
    assert {one.is_running for one in found} == {True, False}
    assert {len(one.peers) for one in found} == {1, 2}
    assert {peer.is_direct for one in found for peer in one.peers} == {True, False}
    assert {peer.is_heartbeat_up for one in found for peer in one.peers} == {True, False, None}
    states = {one.state for one in found}
    assert {"FAILOVER_ACTIVE", "TERMINATED", "FAILBACK_COMPLETE", "SECONDARY_ALONE"} <= states


def server_value(screen: list[str]) -> ServerInfo:
    """The values of a getserverinfo screen."""
    pairs = guide.values(screen)
    found = dict(pairs)
    is_dormant = any("DORMANT" in line for line in screen)
    return ServerInfo(
        is_running=True,
        services_state=ServicesState.DORMANT if is_dormant else ServicesState.UP,
        config=config_value(found),
        services=tuple(
            ServiceInfo(
                pairs[n][1],
                pairs[n + 1][1],
                pairs[n + 2][1] == "Enabled",
                pairs[n + 3][1] == "Up",
            )
            for n, (label, _) in enumerate(pairs)
            if label == "Service Name"
        ),
        monitor=monitor_value(found),
        sessions=tuple(
            Session(
                id=int(pairs[n][1]),
                user_id=int(pairs[n + 1][1]),
                address=pairs[n + 2][1],
                started=moment(pairs[n + 3][1]),
                last_access=moment(pairs[n + 4][1]),
            )
            for n, (label, _) in enumerate(pairs)
            if label == "Session ID"
        ),
        trap_destinations=tuple(
            TrapDestination(pairs[n][1], moment(pairs[n + 1][1]))
            for n, (label, _) in enumerate(pairs)
            if label == "IP Address"
        ),
    )


def config_value(found: dict[str, str]) -> ServerConfig:
    https = found["HTTPS"]
    return ServerConfig(
        product_name=found["Product name"],
        version=found["Version"],
        address=found["Health Monitor Ip Address"],
        role={"1": "primary", "2": "secondary"}[found["High Availability Role"]],
        hw_version=found["Hw Version"],
        product_id=found["Hw Product Identifier"],
        serial=found["Hw Serial Number"],
        https=None if https == "null" else https,
        legacy_port=int(found["Legacy Port"]),
        log_modules=int(found["Log Modules"]),
        log_level=found["Log Level"],
        days_to_keep_events=int(found["Days to keep events"]),
        session_timeout_min=int(found["Session timeout in mins"]),
        db_backup_days=int(found["DB backup in days"]),
    )


def monitor_value(found: dict[str, str]) -> ServerMonitor:
    restarts = found["Restarts"]
    return ServerMonitor(
        started=moment(found["Server start time"]),
        now=moment(found["Server current time"]),
        timezone=found["Server timezone"],
        offset_min=int(found["Server timezone offset (mins)"]),
        restarts=None if restarts == "null" else int(restarts),
        used_memory_mb=int(found["Used Memory (MB)"]),
        allocated_memory_mb=int(found["Allocated Memory (MB)"]),
        max_memory_mb=int(found["Max Memory (MB)"]),
        db_disk_mb=int(found["DB disk size (MB)"]),
    )


def moment(text: str) -> Moment:
    parts = text.split()
    at = datetime.strptime(" ".join([*parts[:4], parts[5]]), "%a %b %d %H:%M:%S %Y")
    return Moment(at.replace(tzinfo=UTC), parts[4])


@pytest.mark.parametrize(("number", "state"), [(1, "up"), (2, "dormant")])
def test_getserverinfo_prints_what_the_guide_prints(number: int, state: str) -> None:
    screen = guide.server_screens()[number]
    value = server_value(screen)
    assert (value.services_state, len(value.services)) == (state, 6)
    guide.check_same(server_info.render(value), screen)


def test_getserverinfo_while_the_health_monitor_is_stopped() -> None:
    screen = guide.server_screens()[0]
    guide.check_same(server_info.render(ServerInfo(is_running=False)), screen)


def test_a_dormant_secondary_shows_less_whatever_it_knows() -> None:
    primary, secondary = (server_value(screen) for screen in guide.server_screens()[1:])
    assert primary.monitor is not None
    known = ServerInfo(
        is_running=True,
        services_state=ServicesState.DORMANT,
        config=secondary.config,
        services=secondary.services,
        monitor=secondary.monitor and primary.monitor,
        sessions=primary.sessions,
        trap_destinations=primary.trap_destinations,
    )
    text = "\n".join(server_info.render(known))
    assert "Restarts: null" in text
    assert "Active Sessions" not in text
    assert "Trap Destination" not in text


def test_the_context_aware_sections() -> None:
    screen = guide.counters_screen()
    services = tuple(
        ServiceInfo(screen[n].partition(": ")[2], "", *standing(screen[n + 1 : n + 3]))
        for n, line in enumerate(screen)
        if line.startswith("Subservice Name")
    )
    assert len(services) == 2
    counters = ContextAware(active={}, limit=100, sessions=0, not_tracked={}, sub_services=services)
    base = server_value(guide.server_screens()[1])
    value = ServerInfo(
        is_running=True,
        services_state=ServicesState.UP,
        config=base.config,
        monitor=base.monitor,
        context_aware=counters,
    )
    lines = server_info.render(value)
    start = next(n for n, line in enumerate(lines) if line.startswith("Active Wired Clients"))
    guide.check_same(lines[start:], screen)


def standing(lines: list[str]) -> tuple[bool, bool]:
    return lines[0].endswith("Enabled"), lines[1].endswith("Up")


def test_our_four_fields_stand_beneath_the_state_word() -> None:
    fields = FourFields("primary", "sync", "ok", "none")
    info = HaInfo(
        is_running=True,
        role="primary",
        address="10.10.10.11",
        virtual_ip="10.10.10.10",
        version="1",
        udi="",
        state="PRIMARY_ALONE",
        fields=fields,
        peers=(),
    )
    assert [line for line in ha_info.render(info) if line][-6:] == [
        "Number of paired peers: 0",
        "Current state: PRIMARY_ALONE",
        "Current role: primary",
        "Synchronization: sync",
        "Health: ok",
        "Operation: none",
    ]
    assert "UDI: Not known yet" in ha_info.render(info)


def test_what_does_not_exist_is_left_out() -> None:
    at = Moment(datetime(2026, 1, 31, 3, 0, tzinfo=UTC), "UTC")
    config = ServerConfig(
        product_name="P",
        version="1",
        address="10.10.10.11",
        role="primary",
        hw_version="V01",
        product_id="P",
        serial="s",
    )
    monitor = ServerMonitor(
        started=at, now=at, timezone="UTC", offset_min=0, restarts=0, max_memory_mb=100
    )
    value = ServerInfo(is_running=True, reason="It starts.", config=config, monitor=monitor)
    text = "\n".join(server_info.render(value))
    assert "MSE services are down: It starts." in text
    assert "No mobility service is installed." in text
    assert "Server start time: Sat Jan 31 03:00:00 UTC 2026" in text
    assert "Restarts: 0" in text
    for absent in ("Legacy Port", "Log Level", "DB disk", "Used Memory", "Context Aware", "Trap"):
        assert absent not in text
