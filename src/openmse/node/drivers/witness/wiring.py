"""Makes the etcd driver from what a group knows of its witness."""

from collections.abc import Callable

from openmse.ha.messages import Message
from openmse.node.drivers.witness.etcd import EtcdWitness
from openmse.node.drivers.witness.etcd_client import EtcdSettings
from openmse.node.group import WitnessInfo


def etcd_witness(
    info: WitnessInfo, group: str, me: str, on_message: Callable[[Message], None]
) -> EtcdWitness:
    """The driver of node ``me``. ``on_message`` is called in the loop that runs ``run``."""
    assert info.kind == "etcd"
    assert info.name != me
    settings = EtcdSettings(
        endpoints=info.endpoints,
        voter=info.name,
        ca_file=info.ca_file,
        cert_file=info.cert_file,
        key_file=info.key_file,
    )
    return EtcdWitness(settings, group, on_message)
