"""PostgreSQL of one group on one node: binaries, configuration, process, sessions, rejoin.

Nothing here decides: each function does one thing to the server or its directory, with a deadline
and typed errors. When to do it is the database lane's affair (``openmse.node.runtime``).
"""
