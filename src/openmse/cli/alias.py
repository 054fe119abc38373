"""Commands under names of their own, as the guide has them: ``getserverinfo`` and the like.

A command of ``mse`` with ``mse``'s --config among its own options, so that help, usage, errors and
completion speak of the name that was typed.
"""

from typing import Any

import click

from openmse.cli.main import CONTEXT, root


def by_its_own_name(command: click.Command, name: str) -> click.Command:
    """The command as a program called ``name``."""

    @click.pass_context
    def run(ctx: click.Context, /, config_path: str, **options: Any) -> Any:
        ctx.obj = config_path
        return ctx.invoke(command, **options)

    config = next(option for option in root.params if option.name == "config_path")
    return click.Command(
        name,
        params=[config, *command.params],
        callback=run,
        help=command.help,
        context_settings=CONTEXT,
    )
