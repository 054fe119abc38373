"""What the two daemons tell each other beside the protocol: facts of the group, and its end. Pure.

They travel over the mutual TLS link between the nodes, in the envelope of the wire, under a kind of
their own. All are level-like: sent again when a link comes up, harmless when repeated.
"""

from msgspec import Struct

from openmse.node.group import GroupInfo

NOTICES = 2
"""The kind in the envelope (``openmse.wire.codec``)."""


class GroupTold(Struct, frozen=True, tag="group", tag_field="k"):
    """The sender's facts of the group; the higher revision wins."""

    info: GroupInfo


class Dissolve(Struct, frozen=True, tag="dissolve", tag_field="k"):
    """The owner dissolves the group; the receiver forgets it and answers ``Dissolved``."""

    group: str


class Dissolved(Struct, frozen=True, tag="dissolved", tag_field="k"):
    """The sender has stopped its copy of the database and forgets the group now."""

    group: str


class DissolveWish(Struct, frozen=True, tag="wish", tag_field="k"):
    """An operator asked the node that does not own to dissolve the group: the owner shall."""

    group: str


class DirectTold(Struct, frozen=True, tag="direct", tag_field="k"):
    """The sender's end of the direct connection, '' for none; facts of the group travel without.

    A node of the version before refuses this one notice, and has no direct connection."""

    group: str
    address: str


Notice = GroupTold | DirectTold | Dissolve | Dissolved | DissolveWish
