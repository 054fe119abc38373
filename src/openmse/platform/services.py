"""What the status commands need of the mobility services; the service framework fills it in.

A framework subclasses ``ServiceFacts``; the class itself is an engine without services.
"""

from openmse.node.config import Places
from openmse.platform.status.server_info import ContextAware, ServiceInfo, TrapDestination


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
