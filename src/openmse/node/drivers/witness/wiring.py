"""From the group's facts to the driver of a witness in etcd."""

from collections.abc import Callable

from openmse.ha.messages import Message
from openmse.node.drivers.witness.etcd import EtcdWitness
from openmse.node.drivers.witness.etcd_client import EtcdSettings
from openmse.node.group import WitnessInfo


def etcd_witness(
    info: WitnessInfo, group: str, _me: str, on_message: Callable[[Message], None]
) -> EtcdWitness:
    """The driver for the witness ``info`` of ``group``; answers go to ``on_message``."""
    settings = EtcdSettings(
        endpoints=info.endpoints,
        voter=info.name,
        ca_file=info.ca_file,
        cert_file=info.cert_file,
        key_file=info.key_file,
    )
    return EtcdWitness(settings, group, on_message)
