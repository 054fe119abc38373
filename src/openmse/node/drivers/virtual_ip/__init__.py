"""Virtual IP: netlink addresses, probing before an address is taken, announcing afterwards."""

from openmse.node.drivers.virtual_ip.driver import VirtualIp, VirtualIpConfig

__all__ = ["VirtualIp", "VirtualIpConfig"]
