"""Where the product's documents are on an installed machine: the one place that says it. Pure.

'mse install', ``make install`` and the Debian package put them there, and sentences name them by
``document``. What is cited must come with the product: a test looks for every name.
"""

FOLDER = "/usr/share/doc/openmse"


def document(name: str) -> str:
    """The path of one, named as in the repository's ``docs`` without its suffix."""
    return f"{FOLDER}/{name}.md"
