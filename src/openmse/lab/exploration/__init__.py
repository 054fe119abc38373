"""A model of the world around the production core, an exhaustive explorer, a seeded simulator.

``database`` models PostgreSQL; ``world``, ``lanes``, ``site`` machines, network, kernel lease and
disks, with an observer that judges every step by ``openmse.ha.invariants``. ``explorer`` walks all
orders of events at small bounds; ``simulator`` plays random ones in virtual time. ``mutants`` are
the rules of the protocol, removed one at a time: one or the other must find each.
"""
