"""Who may do what: users, roles, sessions, tokens, lock-out, and the record of it all."""
