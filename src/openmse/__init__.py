"""OpenMSE: a mobility services engine that does not go down.

Kept free of imports on purpose: the guard and the health monitor pay for every one at start.
"""

__version__ = "0.1.0"
