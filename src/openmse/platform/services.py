"""What status commands and wizards need of the services; the service framework fills it in.

A framework subclasses ``ServiceFacts``; the class itself is an engine without services.
"""

from openmse.node.config import Places
from openmse.platform.status.server_info import ContextAware, ServiceInfo, TrapDestination
from openmse.platform.steps import OfferedStep


class ServiceFacts:
    """What can be told of this node's services at this moment."""

    def services(self, places: Places) -> tuple[ServiceInfo, ...]:
        """Every service that is installed, in start order."""
        return ()

    def pids(self, places: Places) -> tuple[int, ...]:
        """The processes of the services."""
        return ()

    def context_aware(self, places: Places) -> ContextAware | None:
        """Counters of the Context Aware Service; None unless it is enabled."""
        return None

    def trap_destinations(self, places: Places) -> tuple[TrapDestination, ...]:
        """Where notifications go by default."""
        return ()

    def steps(self, places: Places) -> tuple[OfferedStep, ...]:
        """What a console asks for in its wizard once it has added this engine, in this order."""
        return ()
