"""The fencing agent: an executable that switches the peer off and *confirms* it (protocol §8).

Called as ``AGENT off NODE``; exit status 0 means: verified to be off. Anything else, a timeout
included, means that nothing is known, and nobody is promoted.
"""

import asyncio
import contextlib

LAST_CHARACTERS = 300


async def run_agent(agent: str, peer: str, timeout_s: float) -> tuple[bool, str]:
    """Whether the agent confirmed that ``peer`` is off, and its last words."""
    if not agent:
        return False, "No fencing agent is configured ([fencing] agent)."
    try:
        process = await asyncio.create_subprocess_exec(
            agent,
            "off",
            peer,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return False, f"The fencing agent {agent} cannot be run: {error.strerror}."
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return False, f"The fencing agent did not answer within {timeout_s:g} s."
    words = output.decode(errors="replace").strip()[-LAST_CHARACTERS:]
    if process.returncode != 0:
        return False, f"The fencing agent ended with status {process.returncode}: {words}"
    return True, words or "Confirmed."
