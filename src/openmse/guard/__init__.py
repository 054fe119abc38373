"""The guard: a small process that restarts a dead health monitor, and stops PostgreSQL in time.

Standard library only, and little of it: it is what still works when everything else is broken.
It decides nothing about who may serve; it only keeps a promise that the health monitor made
(``deadline_ns``) when the health monitor no longer can.
"""
