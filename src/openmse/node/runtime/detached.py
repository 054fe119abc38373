"""An owner that only the cable still reaches. Pure.

Clients and the witness are on the health monitor network. An owner that has lost it, and whose peer
has not, serves nobody; but over the direct connection the peer would go on renewing its lease, and
the service would stay down for as long as the cable holds. So the peer does not listen to such an
owner: to the core that is a cut that isolates the owner (protocol §6, "P alone, S+W"), which stops
at the end of its lease, and the peer takes over. Messages may always be lost, so no safety rests
on this.
"""

from openmse.ha.messages import Beat, Message
from openmse.ha.names import is_heard
from openmse.ha.state import Node
from openmse.ha.values import FailoverType, Mode, witness_of


def is_detached(n: Node, message: Message, *, was_detached: bool) -> bool:
    """Whether the peer, not heard on the network, is an owner that the network has lost.

    Its beats say whether it hears the witness; what is no beat is judged by the last of them.
    """
    config = n.config
    if config is None or config.mode is not Mode.SYNC or config.owner != n.peer.id:
        return False
    settings = config.settings
    if settings.failover_type is not FailoverType.AUTOMATIC or settings.maintenance:
        return False
    if not witness_of(config) or not is_heard(n, n.witness):
        return False
    if isinstance(message, Beat):
        return not message.standing.hears_witness and not message.standing.is_handing_over
    return was_detached
