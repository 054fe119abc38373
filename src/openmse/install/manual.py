"""Manual pages from the same help text that ``--help`` shows. Pure but for loading the commands.

``make man`` writes them to docs/man; 'mse install' and the Debian package install them.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from openmse import __version__
from openmse.documents import FOLDER
from openmse.install.completion import commands, programs

SECTIONS: Mapping[str, str] = {"mse": "1", "msed": "8"}
"""Of the pages whose names begin so; every other page is in section 1."""
PROGRAM_OF: Mapping[str, str] = {
    "mse-setup": "mse-setup",
    "mse-server-info": "getserverinfo",
    "mse-ha-info": "gethainfo",
}
"""Page of a command of ``mse`` -> the program that does the same under a name of its own."""
RELATED: Mapping[str, tuple[str, ...]] = {
    "getserverinfo": ("gethainfo", "mse-server-info"),
    "gethainfo": ("getserverinfo", "mse-ha-info", "mse-ha-status"),
    "mse-server-info": ("getserverinfo", "mse-ha-info"),
    "mse-ha-info": ("gethainfo", "mse-server-info", "mse-ha-status"),
    "mse-setup": ("mse-node-init", "mse-ha-pair", "mse-ha-readmit", "mse-config-check"),
    "mse-ha-readmit": ("mse-setup",),
    "msed": ("mse-engine", "mse-setup", "getserverinfo", "gethainfo"),
}
"""Page -> what its readers may look for besides its group and its commands."""
_EXIT_CODES = (
    ("0", "Done."),
    ("1", "Failed: it was begun, or the world did not play along; the message says how it stands."),
    ("2", "Wrong usage, a wrong configuration, or missing rights: nothing was changed."),
    ("3", "Refused by a rule, which is shown: nothing was changed."),
    ("4", "The daemon of this machine does not run: nothing was changed."),
    ("130", "Interrupted with Ctrl-C; what was begun goes on."),
)
_FILES = (
    ("/etc/openmse/openmse.toml", "The configuration of this machine."),
    ("/var/lib/openmse", "Its state: register, keys, database, event log, decision journal."),
    ("/run/openmse", "Sockets and locks; emptied by a boot."),
    (FOLDER, "The documents; install.md there is the beginning."),
)


def pages() -> dict[str, str]:
    """File name -> roff text, for every command there is."""
    found: dict[str, str] = {}
    for name, command in commands().items():
        for path, each in _tree(name, command):
            found[f"{'-'.join(path)}.{SECTIONS[name]}"] = page(path, each)
    for name, command in programs().items():
        file = f"{name}.{_section(name)}"
        if file not in found:  # 'mse setup' and 'mse-setup' have one page
            found[file] = page((name,), command)
    return found


def page(path: tuple[str, ...], command: click.Command) -> str:
    """The page of one command; ``path``: the words that call it."""
    context = _context(path, command)
    usage = _text(" ".join(command.collect_usage_pieces(context)))
    title = "-".join(path)
    section = _section(title)
    lines = [
        f'.TH "{title.upper()}" "{section}" "" "OpenMSE {__version__}" "OpenMSE manual"',
        ".SH NAME",
        f"{_text(title)} \\- {_text(command.get_short_help_str(120).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_text(' '.join(path))}",
        usage,
        *((".PP", f".B {_text(PROGRAM_OF[title])}", usage) if title in PROGRAM_OF else ()),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        *_options(command, context),
        *_commands(path, command, context),
        *_table("EXIT STATUS", _EXIT_CODES),
        *_table("FILES", _FILES),
        *_see_also(path, command, context),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str) -> str:
    return SECTIONS.get(title.partition("-")[0], "1")


def _tree(name: str, command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    def below(
        path: tuple[str, ...], each: click.Command
    ) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        yield path, each
        if isinstance(each, click.Group):
            for word, found in _shown(path, each):
                yield from below((*path, word), found)

    yield from below((name,), command)


def _shown(path: tuple[str, ...], group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = _context(path, group)
    for word in group.list_commands(context):
        found = group.get_command(context, word)
        if found is not None and not found.hidden:
            yield word, found


def _context(path: tuple[str, ...], command: click.Command) -> click.Context:
    name = " ".join(path)
    return click.Context(command, info_name=name, help_option_names=["-h", "--help"])


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [p.get_help_record(context) for p in command.get_params(context)]
    rows = [record for record in records if record is not None]
    yield from _table("OPTIONS", rows)


def _commands(
    path: tuple[str, ...], command: click.Command, _context: click.Context
) -> Iterator[str]:
    if isinstance(command, click.Group):
        rows = [(word, found.get_short_help_str(200)) for word, found in _shown(path, command)]
        yield from _table("COMMANDS", rows)


def _see_also(
    path: tuple[str, ...], command: click.Command, _context: click.Context
) -> Iterator[str]:
    names = ["-".join(path[:-1])] if len(path) > 1 else []
    if isinstance(command, click.Group):
        names += ["-".join((*path, word)) for word, _ in _shown(path, command)]
    names += [*RELATED.get("-".join(path), ()), *(name for name in SECTIONS if name != path[0])]
    shown = [f"\\fB{_text(name)}\\fR({_section(name)})" for name in dict.fromkeys(names)]
    yield ".SH SEE ALSO"
    yield ", ".join(shown)


def _table(
    title: str, rows: "list[tuple[str, str]] | tuple[tuple[str, str], ...]"
) -> Iterator[str]:
    if rows:
        yield f".SH {title}"
    for left, right in rows:
        yield ".TP"
        yield f"\\fB{_text(left)}\\fR"
        yield _text(right) or "\\&"


def _paragraphs(text: str) -> Iterator[str]:
    """The help as click formats it: paragraphs, of which \\b keeps the lines as they are."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", _dedented(text))):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield ".nf"
            yield from (_text(line) for line in paragraph.splitlines()[1:])
            yield ".fi"
        else:
            yield _text(" ".join(paragraph.split()))


def _dedented(text: str) -> str:
    import inspect

    return inspect.cleandoc(text).partition("\f")[0]


def _text(text: str) -> str:
    """Plain text as roff: nothing in it is a request or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped)


def write(folder: Path) -> None:
    """Make ``folder`` hold exactly the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
