"""The node's management API: a process of its own beside the health monitor (the admin process).

It reaches the health monitor over the control socket only, and may be down without the pair
noticing. docs/management-api.md is its contract.
"""
