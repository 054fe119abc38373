"""The control socket of a machine's daemon: both ends, and what is said over it."""
