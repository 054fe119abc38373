"""The third vote as a process of its own: many groups, one small record each, no data.

What it answers is decided by ``openmse.ha.witness``; here are its sockets, its disk and its
groups. ``python -m openmse.witness --config FILE`` runs it.
"""
