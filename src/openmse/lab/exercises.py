"""What is done to a pair under load, one function each: the catalogue of demo, bench and campaign.

Each begins with a pair in SYNC, returns the window to measure, and leaves a pair in SYNC (but for
those whose name says that the repair is another exercise). "P" is the owner of the moment, "S" the
other node, "W" the witness.
"""

from collections.abc import Callable
from dataclasses import dataclass

from openmse.lab.ledger import now_ns
from openmse.lab.programs import GUARD, HEALTH_MONITOR, POSTGRES
from openmse.lab.stage import SECOND, ExerciseFailed, Stage, Window

Play = Callable[[Stage], Window]


@dataclass(frozen=True, slots=True)
class Exercise:
    """One thing to do, its stable name and its words for people."""

    key: str
    title: str
    play: Play
    is_repair: bool = False
    """Begins with a pair that is not in SYNC, which the exercise before it left."""


def _since(instant: int) -> float:
    return (now_ns() - instant) / SECOND


def planned(stage: Stage, verb: str) -> Window:
    """A planned change of owner with the product's own command (``switchover``, ``failback``)."""
    owner = stage.owner()
    peer = stage.other(owner)
    begin = stage.mark(now_ns(), owner, f"mse ha {verb}", is_mend=verb == "failback")
    stage.command(owner, "mse", "ha", verb)
    end = stage.until_served(begin, by=peer)
    back = stage.until_sync()
    return Window(begin, end, (back - begin) / SECOND)


def switchover(stage: Stage) -> Window:
    """Planned: the other node takes over."""
    return planned(stage, "switchover")


def failback(stage: Stage) -> Window:
    """Planned: back to the configured primary."""
    return planned(stage, "failback")


def there_or_back(stage: Stage) -> Window:
    """Whichever planned change is possible: to the other node, or home."""
    return planned(stage, "switchover" if stage.owner() == stage.group else "failback")


def kill_health_monitor(stage: Stage) -> Window:
    """SIGKILL the owner's health monitor: its guard restarts it, clients notice nothing."""
    owner = stage.owner()
    before = stage.health_monitor_pid(owner)
    begin = stage.laboratory.kill(owner, HEALTH_MONITOR)
    stage.mark(begin, owner, "health monitor killed")
    stage.until(
        lambda: stage.health_monitor_pid(owner) not in (None, before),
        stage.takeover_s,
        f"the guard of {owner} to restart the health monitor",
    )
    end = stage.watch(max(stage.failover_wait_s + 1 - _since(begin), 0))
    stage.until_sync()
    return Window(begin, end)


def kill_guard(stage: Stage) -> Window:
    """SIGKILL the owner's guard."""
    owner = stage.owner()
    begin = stage.laboratory.kill(owner, GUARD)
    stage.mark(begin, owner, "guard killed")
    end = stage.watch(stage.failover_wait_s + 1)
    stage.until_sync()
    return Window(begin, end)


def kill_postgres(stage: Stage) -> Window:
    """SIGKILL the owner's postmaster; its health monitor lives."""
    owner = stage.owner()
    begin = stage.laboratory.kill(owner, POSTGRES)
    stage.mark(begin, owner, "PostgreSQL killed")
    end = stage.until_served(begin)
    back = stage.until_sync()
    return Window(begin, end, (back - begin) / SECOND)


def power_off_owner(stage: Stage) -> Window:
    """The owner loses its power. It stays off."""
    owner = stage.owner()
    begin = stage.laboratory.power_off(owner)
    stage.mark(begin, owner, "power off")
    end = stage.until_served(begin, by=stage.other(owner))
    return Window(begin, end)


def power_on_missing(stage: Stage) -> Window:
    """Every machine without power gets it back and rejoins."""
    begin = now_ns()
    for name in stage.laboratory.machines:
        if not stage.laboratory.has_power(name):
            begin = stage.mark(stage.laboratory.power_on(name), name, "power on", is_mend=True)
    back = stage.until_sync()
    return Window(begin, back, (back - begin) / SECOND)


def power_cycle_owner(stage: Stage) -> Window:
    """The owner loses its power, the other takes over, the old owner comes back."""
    window = power_off_owner(stage)
    window.sync_after_s = power_on_missing(stage).sync_after_s
    return window


def power_cycle_peer(stage: Stage) -> Window:
    """The secondary loses its power: the owner stalls, goes on alone; later it is back."""
    peer = stage.other(stage.owner())
    begin = stage.laboratory.power_off(peer)
    stage.mark(begin, peer, "power off")
    end = stage.until_served(stage.until_mode("ALONE", stage.takeover_s))
    return Window(begin, end, power_on_missing(stage).sync_after_s)


def freeze_health_monitor(stage: Stage, hold_s: float = 5.0, total_s: float = 0.0) -> Window:
    """Freeze the owner's health monitor until the takeover plus ``hold_s`` (or ``total_s``)."""
    owner = stage.owner()
    begin = stage.laboratory.freeze(owner, HEALTH_MONITOR)
    stage.mark(begin, owner, "health monitor frozen")
    stage.until_served(begin, by=stage.other(owner))
    end = stage.watch(max(hold_s, total_s - _since(begin)))
    thawed = stage.laboratory.thaw(owner, HEALTH_MONITOR)
    stage.mark(thawed, owner, "thawed", is_mend=True)
    back = stage.until_sync()
    return Window(begin, end, (back - thawed) / SECOND)


def freeze_machine(stage: Stage) -> Window:
    """Freeze all programs of the owner until the takeover plus 2 s; its kernel goes on."""
    owner = stage.owner()
    begin = stage.laboratory.freeze(owner, "all")
    stage.mark(begin, owner, "all programs frozen")
    stage.until_served(begin, by=stage.other(owner))
    end = stage.watch(2.0)
    thawed = stage.laboratory.thaw(owner, "all")
    stage.mark(thawed, owner, "thawed", is_mend=True)
    back = stage.until_sync()
    return Window(begin, end, (back - thawed) / SECOND)


# ---------------------------------------------------------------------- cuts, protocol §6


def _heal(stage: Stage, timeout_s: float = 150.0) -> float:
    """Mend all cables; seconds until SYNC."""
    healed = stage.laboratory.heal()
    stage.mark(healed, "", "cables healed", is_mend=True)
    return (stage.until_sync(timeout_s) - healed) / SECOND


def cut_pair(stage: Stage) -> Window:
    """P/S cut, both see W: P goes on alone after a stall; S is refused."""
    owner = stage.owner()
    begin = stage.laboratory.cut(owner, stage.other(owner))
    stage.mark(begin, owner, "P/S cut")
    end = stage.until_served(stage.until_mode("ALONE", stage.takeover_s), by=owner)
    return Window(begin, end, _heal(stage))


def _harmless_cut(stage: Stage, node: str, other: str, text: str, only: str = "") -> Window:
    before = stage.picture()
    begin = stage.laboratory.cut(node, other, only)
    stage.mark(begin, node, text)
    end = stage.watch(stage.failover_wait_s + 1)
    after = stage.picture()
    if (after.epoch, after.mode) != (before.epoch, before.mode):
        raise ExerciseFailed(
            f"The group went from {before.mode} (epoch {before.epoch}) to {after.mode} (epoch "
            f"{after.epoch}), though this cut should change nothing: {text}.",
            "The events of both nodes say why: mse ha events.",
        )
    return Window(begin, end, _heal(stage))


def cut_owner_witness(stage: Stage) -> Window:
    """P/W cut: an alarm, nothing else."""
    return _harmless_cut(stage, stage.owner(), stage.witness, "P/W cut")


def cut_peer_witness(stage: Stage) -> Window:
    """S/W cut: an alarm, nothing else."""
    return _harmless_cut(stage, stage.other(stage.owner()), stage.witness, "S/W cut")


def cut_heartbeats(stage: Stage) -> Window:
    """Heartbeats between P and S lost, WAL still flows, W grants: no failover."""
    owner = stage.owner()
    return _harmless_cut(stage, owner, stage.other(owner), "heartbeats lost", "heartbeats")


def isolate_owner(stage: Stage) -> Window:
    """P alone, cut off from everybody, clients too: S takes over."""
    owner = stage.owner()
    begin = stage.laboratory.cut(owner)
    stage.mark(begin, owner, "P cut off")
    end = stage.until_served(begin, by=stage.other(owner))
    return Window(begin, end, _heal(stage))


def isolate_owner_from_voters(stage: Stage) -> Window:
    """P cut off from S and W, while clients still reach it: it must stop by itself."""
    owner = stage.owner()
    peer = stage.other(owner)
    begin = stage.laboratory.cut(owner, peer)
    stage.laboratory.cut(owner, stage.witness)
    stage.mark(begin, owner, "P alone, clients reach it")
    end = stage.until_served(begin, by=peer)
    return Window(begin, end, _heal(stage))


def isolate_peer(stage: Stage) -> Window:
    """S alone: P goes on alone after a stall."""
    owner = stage.owner()
    peer = stage.other(owner)
    begin = stage.laboratory.cut(peer)
    stage.mark(begin, peer, "S cut off")
    end = stage.until_served(stage.until_mode("ALONE", stage.takeover_s), by=owner)
    return Window(begin, end, _heal(stage))


def isolate_witness_briefly(stage: Stage) -> Window:
    """W alone for a few seconds: nothing happens."""
    begin = stage.laboratory.cut(stage.witness)
    stage.mark(begin, stage.witness, "W cut off")
    end = stage.watch(stage.failover_wait_s + 2)
    return Window(begin, end, _heal(stage))


def isolate_witness(stage: Stage) -> Window:
    """W alone for over a minute: the pair is PINNED, and serves on."""
    begin = stage.laboratory.cut(stage.witness)
    stage.mark(begin, stage.witness, "W cut off")
    stage.until_mode("PINNED", 100.0)
    end = stage.watch(1.0)
    return Window(begin, end, _heal(stage))


def all_apart(stage: Stage) -> Window:
    """P, S and W all cut off from each other: P stops; service returns with the cables."""
    owner = stage.owner()
    peer = stage.other(owner)
    begin = stage.laboratory.cut(owner, peer)
    stage.laboratory.cut(owner, stage.witness)
    stage.laboratory.cut(peer, stage.witness)
    stage.mark(begin, "", "all apart")
    stage.watch(stage.failover_wait_s + 2)
    back = _heal(stage)
    return Window(begin, now_ns(), back)


def flap(stage: Stage) -> Window:
    """The cable between P and S flaps five times, half a second each."""
    owner = stage.owner()
    begin = stage.laboratory.flap(owner, stage.other(owner), period_s=1.0, times=5)
    stage.mark(begin, owner, "P/S flaps")
    stage.watch(6.0)
    back = _heal(stage)
    return Window(begin, now_ns(), back)


def one_way_to_peer(stage: Stage) -> Window:
    """What P sends to S is lost, what comes back passes: one-way loss is a cut."""
    owner = stage.owner()
    begin = stage.laboratory.one_way(owner, stage.other(owner))
    stage.mark(begin, owner, "P to S lost")
    end = stage.until_served(stage.until_mode("ALONE", stage.takeover_s), by=owner)
    return Window(begin, end, _heal(stage))


CATALOGUE: dict[str, Exercise] = {
    exercise.key: exercise
    for exercise in (
        Exercise("switchover", "planned switchover", switchover),
        Exercise("failback", "planned failback", failback),
        Exercise("planned", "planned switchover or failback", there_or_back),
        Exercise("kill-health-monitor", "health monitor killed", kill_health_monitor),
        Exercise("kill-guard", "guard killed", kill_guard),
        Exercise("kill-postgres", "PostgreSQL killed", kill_postgres),
        Exercise("power-off", "owner loses power", power_off_owner),
        Exercise("power-on", "old owner back, rejoins", power_on_missing, is_repair=True),
        Exercise("power-cycle", "owner loses power", power_cycle_owner),
        Exercise("power-cycle-peer", "secondary loses power", power_cycle_peer),
        Exercise("freeze", "health monitor frozen", freeze_health_monitor),
        Exercise("freeze-all", "owner's programs frozen", freeze_machine),
        Exercise("cut-ps", "cut: P/S, both see W", cut_pair),
        Exercise("cut-pw", "cut: P/W", cut_owner_witness),
        Exercise("cut-sw", "cut: S/W", cut_peer_witness),
        Exercise("cut-heartbeats", "cut: heartbeats only", cut_heartbeats),
        Exercise("cut-p", "cut: P from everybody", isolate_owner),
        Exercise("cut-p-voters", "cut: P from S and W", isolate_owner_from_voters),
        Exercise("cut-s", "cut: S from everybody", isolate_peer),
        Exercise("cut-w", "cut: W, for over a minute", isolate_witness),
        Exercise("cut-w-brief", "cut: W, briefly", isolate_witness_briefly),
        Exercise("cut-all", "cut: all apart", all_apart),
        Exercise("flap", "cable P/S flaps", flap),
        Exercise("one-way", "cut: one way, P to S", one_way_to_peer),
    )
}
