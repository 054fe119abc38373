"""The decisions of the HA protocol: pure, no I/O, no clock, no log; events in, effects out.

Start reading at ``node.step``. The protocol itself is docs/protocol.md.
"""
