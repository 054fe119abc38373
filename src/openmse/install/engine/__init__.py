"""Starting and stopping the product on this machine: what ``msed`` does.

With systemd the units are used, without it the daemons are started here, each below a keeper that
starts it again when it fails. Either way a thing counts as started when it answers, not before.
"""
