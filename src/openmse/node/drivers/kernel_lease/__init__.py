"""Kernel lease: nftables lets the virtual IP and the service ports pass only for a time."""

from openmse.node.drivers.kernel_lease.lease import KernelLease, LeaseState, remove_other_leases
from openmse.node.drivers.kernel_lease.ruleset import LeaseConfig

__all__ = ["KernelLease", "LeaseConfig", "LeaseState", "remove_other_leases"]
