"""The console: the web application an operator keeps open, on the third machine.

It talks to nodes through their management API only, and may be down, restarted or replaced
without a pair noticing.
"""
