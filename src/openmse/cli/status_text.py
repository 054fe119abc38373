"""The status picture as lines of text. Pure."""

from collections.abc import Iterator

from openmse.node.control.snapshot import DatabaseView, PartyView, PathView, Snapshot


def lines(s: Snapshot) -> list[str]:
    """The picture for a terminal."""
    rows = [f"{s.node}: {s.state}", f"  {s.reason}" if s.reason else ""]
    rows += [f"  {label:<11} {text}" for label, text in _facts(s) if text]
    if s.running is not None:
        rows.append(f"  {s.running.kind} since {s.running.elapsed_ms:.0f} ms: {s.running.step}")
        rows += [f"    {step.ms:>8.0f} ms  {step.name}" for step in s.running.steps]
    for alarm in s.alarms:
        rows.append(f"  ! {alarm.severity}: {alarm.sentence}")
        if alarm.action:
            rows.append(f"      What to do: {alarm.action}")
    return [row for row in rows if row]


def _facts(s: Snapshot) -> Iterator[tuple[str, str]]:
    yield "now", f"role {s.role} · sync {s.sync} · health {s.health} · operation {_operation(s)}"
    r = s.register
    if r is None:
        yield "register", "no group is known yet"
    else:
        unknown = ", a later change of unknown fate" if r.is_fate_unknown else ""
        yield (
            "register",
            f"{r.mode}({r.owner}) term {r.term} epoch {r.epoch}, history {r.lineage}, voters "
            f"{', '.join(r.voters)}{unknown}",
        )
        if s.role == "primary":
            yield "lease", _lease(s)
    yield "peer", _party(s.peer)
    for path in s.paths:
        yield path.name, _path(path)
    yield "witness", _party(s.witness) or (f"{s.witness_kind}" if r is not None else "")
    yield "database", _database(s.database)
    yield "address", _address(s)
    if s.peer is not None:
        if s.role == "primary":
            yield "switchover", s.why_not.switchover or "possible now"
        is_away = r is not None and r.owner == s.node and r.owner != r.primary
        yield "failback", s.why_not.failback if is_away else ""
        yield "in step", f"not yet: {s.why_not.sync}" if s.sync != "sync" and s.why_not.sync else ""
        is_lost = s.loss is not None and not s.peer.is_heard
        yield "takeover", s.loss.sentence if s.loss is not None and is_lost else ""
    pids = ", ".join(f"{name} {pid if pid else 'down'}" for name, pid in s.pids.items())
    yield "processes", pids


def _operation(s: Snapshot) -> str:
    return s.operation + (f" {s.progress_percent} %" if s.progress_percent >= 0 else "")


def _lease(s: Snapshot) -> str:
    if not s.lease.is_needed:
        return "none needed"
    if s.lease.remaining_ms < 0:
        return "none held"
    return f"{s.lease.remaining_ms / 1000:.1f} s of {s.lease.length_ms / 1000:.1f} s left"


def _party(p: PartyView | None) -> str:
    if p is None:
        return ""
    if p.heard_ms_ago < 0:
        return f"{p.name}: never heard since this process started"
    parts = [f"{p.name}: {'heard' if p.is_heard else 'SILENT,'} {p.heard_ms_ago:.0f} ms ago"]
    if p.round_trip_ms >= 0:
        parts.append(f"round trip {p.round_trip_ms:.2f} ms")
    parts.append(f"knows {p.term}.{p.epoch}")
    if p.note:
        parts.append(p.note)
    return ", ".join(parts)


def _path(p: PathView) -> str:
    heard = "never heard" if p.heard_ms_ago < 0 else f"heard {p.heard_ms_ago:.0f} ms ago"
    used = ", used for data" if p.is_used else ""
    state = "up" if p.is_up else "DOWN"
    return f"{p.interface} {p.own_address} to {p.peer_address}: {state}, {heard}{used}"


def _database(d: DatabaseView) -> str:
    text = f"{d.role} {d.process} at {d.end_lsn}"
    if d.receiver != "none":
        text += f", receiver {d.receiver}"
    if d.lag_bytes >= 0:
        text += f", copy {d.lag_bytes} bytes behind"
    if d.progress_percent >= 0:
        text += f", rebuilding {d.progress_percent} %"
    return f"{text}. {d.failure}" if d.failure else text


def _address(s: Snapshot) -> str:
    if not s.virtual_ips:
        return ""
    admits = ", clients admitted" if s.admits_clients else ""
    return f"{', '.join(s.virtual_ips)} {s.address}{admits}"
