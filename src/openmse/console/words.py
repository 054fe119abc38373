"""Words that come out of values and are translated by the filter ``word``: for the catalogues.

States of the protocol (PRIMARY_ACTIVE …) stay as they are: the guide, the command line and the
logs write them so, in every language.
"""

WORDS = (
    "Unknown", "Reachable", "Unreachable", "Other certificate", "Not managed here", "Running",
    "Down", "Monitor down", "Up", "Setting up", "Heard", "Silent", "None",
    "primary", "secondary", "standby", "none",
    "viewer", "operator", "administrator",
    "enabled", "disabled", "up", "down", "dormant",
    "sync", "catching_up", "alone", "ok", "degraded", "failed",
    "handover", "takeover", "release", "stop", "rebuild",
    "switchover", "failback", "maintenance", "drill", "pair", "unpair", "settings", "rejoin",
    "release_protect", "confirm_alone",
    "checkpoint", "drain", "hand_over", "promote", "take_back", "choose", "cut_receiver",
    "ask_witness", "released", "enrolling the witness", "settings before", "making them voters",
    "pairing with the secondary",
    "reachability", "state", "register", "database", "replication", "address", "clients",
    "streaming", "cut", "starting", "stopping", "absent", "probing", "held", "conflict",
    "admitted", "kept out", "silent",
    "running", "done", "refused", "lost", "begun", "waiting",
    "info", "warning", "error",
    "check", "pairing password", "synchronization", "claim", "facts",
    "log in", "set up administrator", "add engine", "edit engine", "delete engine", "synchronize",
    "add user", "change user", "remove user", "change password", "add token", "remove token",
    "change settings", "maintenance on", "maintenance off", "recover",
    "Device name", "Device type", "IP address", "Version", "Reachability", "State",
    "Secondary server", "Mobility services",
    "Connection", "Identity", "Log in", "Licensing", "Services", "Finished", "Secondary", "Pair",
    "Activation", "Activated", "Not activated", "Not needed", "Licensing off",
    "in force", "expired", "other engine", "not activated", "nothing to extend",
    "permanent", "evaluation", "extension", "permanent, evaluation", "built-in", "not licensed",
    "activation",
    "CAS Elements", "wIPS Monitor Mode APs", "wIPS Local Mode APs", "Service Advertisement Clicks",
    "licence", "install licence", "remove licence", "share licences",
    "witness_replace", "witness_remove", "readmit", "readmit_cancel",
    "Heard by one",
    "address_failed", "sync_waits_cancelled", "rpo_not_guaranteed", "direct_unusable",
    "direct_down", "network_path_down", "quarantined", "database_failed", "address_conflict",
    "address_contested", "lease_lost", "control_path_broken", "peer_lost", "witness_lost",
    "not_streaming", "forced_term", "writes_wait", "certificate_ended",
)  # fmt: skip
