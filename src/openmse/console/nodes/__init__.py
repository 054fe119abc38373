"""The other side: a node's management API (docs/management-api.md), as the console uses it."""
