"""The state word of a node whose health monitor is stopped, from what it has saved. Pure."""

from openmse.ha.names import State
from openmse.ha.values import Config, Mode, Record


def last_state(record: Record | None, *, was_stopped_on_purpose: bool) -> State:
    """The last word as far as the register tells it.

    A configured primary whose secondary owns says FAILOVER_ACTIVE, as the guide's does. A node
    that was told to stop while the pair was whole says GRACEFUL_SHUTDOWN.
    """
    config = saved_config(record)
    if record is None or config is None:
        return State.WAITING
    is_primary = (config.primary or config.owner) == record.me
    is_owner = config.owner == record.me
    if is_owner != is_primary:  # the secondary owns
        return State.FAILOVER_ACTIVE
    if was_stopped_on_purpose or _has_released(record, config):
        return State.GRACEFUL_SHUTDOWN
    if config.mode is Mode.PINNED:
        return State.PINNED
    if is_owner:
        return State.PRIMARY_ACTIVE if config.mode is Mode.SYNC else State.PRIMARY_ALONE
    return State.SECONDARY_ACTIVE if config.mode is Mode.SYNC else State.SECONDARY_ALONE


def saved_config(record: Record | None) -> Config | None:
    """The newest config that a record knows chosen; None where there is none."""
    if record is None:
        return None
    return record.value if record.is_known_chosen else record.known


def _has_released(record: Record, config: Config) -> bool:
    """Whether an owner has given its final word in this very config."""
    released = record.released
    if released is None or config.owner != record.me:
        return False
    return (released.node, released.term, released.epoch) == (record.me, *config.version)
