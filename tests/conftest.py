"""What every test starts from, however the tests themselves were started."""

import signal


def pytest_configure() -> None:
    """Take Ctrl-C like a program in the foreground.

    A job in the background of a script, as continuous integration may run us, begins with SIGINT
    ignored, and children inherit that: the commands and servers under test would not hear theirs.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
