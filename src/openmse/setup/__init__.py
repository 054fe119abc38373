"""The set-up wizard: questions as data, a pure state machine, appliers that can be undone.

``wizard`` asks, ``plan`` turns answers into the wanted text of files, ``apply`` writes them.
Pure: everything but ``world``, ``probes``, ``files``, ``system``, ``terminal`` and ``session``.
"""
