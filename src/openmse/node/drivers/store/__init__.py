"""The durable state of a voter: one small file, whole or refused."""

from openmse.node.drivers.store.machine import Machine
from openmse.node.drivers.store.record import RecordStore
from openmse.node.drivers.store.voter import Opened, open_voter

__all__ = ["Machine", "Opened", "RecordStore", "open_voter"]
