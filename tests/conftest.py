"""What every test starts from, however the tests themselves were started."""

import signal


def pytest_configure() -> None:
    """Hear Ctrl-C and SIGQUIT like a program in the foreground.

    A job in the background of a script, as continuous integration may run us, begins with both
    ignored, and children inherit that: commands and servers under test would not hear theirs.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
