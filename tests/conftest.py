"""What every test starts from, however the tests themselves were started."""

import signal

import pytest


def pytest_configure() -> None:
    """Hear Ctrl-C and SIGQUIT like a program in the foreground.

    A job in the background of a script, as continuous integration may run us, begins with both
    ignored, and children inherit that: commands and servers under test would not hear theirs.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For ``make test``: a file's tests stay together, and one laboratory is busy at a time.

    Two laboratories on two cores would only measure each other. The laboratories come first, since
    they take as long as everything else.
    """
    for item in items:
        group = "lab" if "tests/lab/" in str(item.path) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: "tests/lab/" not in str(item.path))
