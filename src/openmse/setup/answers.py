"""The answers file: every question's answer under its key, checked by the same rules. Pure.

Reading it walks the same questions as a person does, so that a file cannot ask for anything that
the wizard would refuse. All faults are collected before any is told.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit
from msgspec.structs import replace
from tomlkit.container import Container
from tomlkit.items import Table

from openmse.setup.errors import BadAnswer, BadAnswers
from openmse.setup.menus import GoBack
from openmse.setup.modern import BY_ADDRESS, ETCD, ETCD_FILES
from openmse.setup.questions import Item, Question
from openmse.setup.values import DEFAULT, NO, NONE, PRIMARY, SKIP, YES, Machine
from openmse.setup.wizard import Script, State, ask, checked_value, next_question, with_answer

FORMAT = 1
Secrets = Mapping[str, str]
"""Passwords by the path that the file names, already read."""


def keys_of(script: Script) -> dict[str, Question]:
    """Every key of the file with its question."""
    questions = [question for item in script.items for question in item.questions]
    return {question.key: question for question in questions if question.key}


def flat(text: str) -> dict[str, Any]:
    """The file's values by dotted key. Raises BadAnswers where it is no TOML."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadAnswers(
            f"The answers file is not a valid TOML file: {error}.",
            "Mend that line; nothing was changed.",
        ) from error
    return dict(_flat(data, ""))


def _flat(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def password_files(script: Script, values: Mapping[str, Any]) -> list[str]:
    """The files with passwords that the answers name."""
    return [
        str(values[key])
        for key, question in keys_of(script).items()
        if question.key_kind == "file" and values.get(key)
    ]


def state_of(script: Script, values: Mapping[str, Any], secrets: Secrets) -> State:
    """The conversation that gives these answers, ready to be confirmed. Raises BadAnswers."""
    known = keys_of(script)
    foreign, meant = _unknown(values, known)
    texts, faults = _texts(known, values, secrets)
    state, broken = _walk(script, texts)
    # What follows from a fault that is told already is no fault of its own.
    faults |= {key: fault for key, fault in broken.items() if key not in faults | meant}
    faults |= _unused(script, texts, state, faults | meant)
    told = [*foreign, *(f"{key}: {fault}" for key, fault in faults.items())]
    told = told or script.review(script.view(state))
    if told:
        raise BadAnswers(
            "The answers file cannot be used:\n" + "\n".join(f"  {fault}" for fault in told),
            "Mend these answers ('mse setup --print-answers' shows the form); nothing was changed.",
        )
    return state


def _texts(
    known: Mapping[str, Question], values: Mapping[str, Any], secrets: Secrets
) -> tuple[dict[str, str], dict[str, str]]:
    """What a person would type, by question, and the fault of each key that is of another type."""
    texts, faults = {}, {}
    for key, question in known.items():
        if key in values:
            try:
                texts[question.id] = _text(question, values[key], secrets)
            except BadAnswer as error:
                faults[key] = error.sentence
    return texts, faults


def _unused(
    script: Script, texts: Mapping[str, str], state: State, faulty: Mapping[str, str]
) -> dict[str, str]:
    """Keys that these answers leave no question for.

    None of an item with a fault, which was skipped, and none at all where that is the one with the
    role, on which most others depend.
    """
    broken = {item.id for item in script.items if any(q.key in faulty for q in item.questions)}
    return {
        question.key: "it is not asked with these answers."
        for item in script.items
        if not broken & {"ha", item.id}
        for question in item.questions
        if _is_unused(question, texts, state)
    }


def _is_unused(question: Question, texts: Mapping[str, str], state: State) -> bool:
    is_given = question.id in texts and texts[question.id] != _DISABLED
    return is_given and question.id not in state.answers


def _walk(script: Script, texts: Mapping[str, str]) -> tuple[State, dict[str, str]]:
    """Answer question by question; an item with a fault is skipped, the others are gone through.

    Gives the faults by the key (or the question's name, where it has none).
    """
    state = State()
    faults: dict[str, str] = {}
    while True:
        state = ask(script, state).state
        question = next_question(script, state)
        if question is None:
            return state, faults
        item = next(i for i in script.items if question is i.gate or question in i.questions)
        if question is item.gate:
            state = with_answer(state, question, _gate(item, texts))
            continue
        try:
            value = _value(script, state, question, texts)
        except BadAnswer as error:
            faults[question.key or question.id] = error.sentence
            state = _skipped(state, item)
        else:
            state = with_answer(state, question, value)


def _value(script: Script, state: State, question: Question, texts: Mapping[str, str]) -> str:
    """The canonical answer; raises BadAnswer with the rule."""
    is_repeated = question.is_secret and not question.key
    text = state.trail[-1].value if is_repeated else texts.get(question.id, "")
    if not text and not question.suggested(script.view(state)):
        text = question.fallback(script.view(state))
    try:
        return checked_value(script, state, question, text)
    except GoBack:
        raise BadAnswer("it is no answer.") from None
    except BadAnswer as error:
        missing = "" if text else "it is missing. "
        raise BadAnswer(f"{missing}{error.sentence}") from None


def _skipped(state: State, item: Item) -> State:
    place = next(n for n, given in enumerate(state.trail) if given.id == item.id)
    return with_answer(replace(state, trail=state.trail[:place]), item.gate, SKIP)


def _gate(item: Item, texts: Mapping[str, str]) -> str:
    if not item.questions:
        return YES
    ids = [question.id for question in item.questions]
    if any(texts.get(name) == _DISABLED for name in ids):
        return DEFAULT
    return YES if any(name in texts for name in ids) else SKIP


_DISABLED = "disabled"
"""An interface's address in an answers file: switch it off, as (U)se default does."""


def _unknown(
    values: Mapping[str, Any], known: Mapping[str, Question]
) -> tuple[list[str], dict[str, str]]:
    """What is wrong with keys that are none, and which known ones they were meant for."""
    faults: list[str] = []
    meant: dict[str, str] = {}
    for key, value in values.items():
        if key == "format":
            if value != FORMAT:
                faults.append(f"format: this software reads format {FORMAT}, not {value}.")
        elif any(name.startswith(f"{key}.") for name in known):
            faults.append(f"{key}: it must be a table, '[{key}]', with its answers beneath.")
        elif key not in known:
            near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
            question = f" Did you mean '{near[0]}'?" if near else ""
            faults.append(f"{key}: there is no such answer on this machine.{question}")
            meant |= {name: key for name in near if name not in values}
    return faults, meant


def _text(question: Question, value: Any, secrets: Secrets) -> str:
    """A value of the file as a person would type it; raises BadAnswer for another type."""
    kind = question.key_kind
    if kind == "flag":
        if isinstance(value, bool):
            return YES if value else NO
        raise BadAnswer("It must be true or false.")
    if kind == "number":
        if isinstance(value, int | float) and not isinstance(value, bool):
            return f"{value:g}"
        raise BadAnswer("It must be a number.")
    if kind == "list":
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            return " ".join(value)
        raise BadAnswer("It must be a list of texts in quotes.")
    if not isinstance(value, str):
        raise BadAnswer("It must be a text in quotes.")
    if kind == "file":
        return secrets.get(value, "")
    if not value.strip():
        if question.id == "domain.name":
            return NONE
        raise BadAnswer("It must not be empty; left out, it stays as it is.")
    return value


# -- writing ----------------------------------------------------------------------------------

HEAD = """\
# Answers for 'mse setup --answers FILE'. What is left out stays as it is on the machine.
# Passwords never stand here: management.password_file and pairing.password_file name files
# whose first line is the password.
"""


def answers_text(machine: Machine) -> str:
    """What is set on a machine, as an answers file; no secret is in it."""
    document = tomlkit.parse(HEAD)
    for key, value in _values(machine):
        table: Container | Table = document
        *path, name = key.split(".")
        for part in path:
            if part not in table:
                table.append(part, tomlkit.table())
            found = table[part]
            assert isinstance(found, Table)
            table = found
        table.append(name, tomlkit.item(value))
    return tomlkit.dumps(document)


def _values(machine: Machine) -> Iterator[tuple[str, Any]]:
    yield "format", FORMAT
    yield "hostname", machine.hostname
    yield "domain", machine.domain
    if machine.is_configured:
        yield from _group_values(machine)
    for number, interface in enumerate(machine.interfaces):
        if interface.address:
            yield f"interface.{interface.name}.address", interface.address
            yield f"interface.{interface.name}.netmask", interface.netmask
            if number == 0:
                yield f"interface.{interface.name}.gateway", machine.gateway or NONE
    yield "dns.enabled", machine.is_dns_enabled
    if machine.is_dns_enabled:
        yield "dns.servers", list(machine.dns_servers)
    yield "time.zone", machine.zone
    yield "time.ntp", machine.is_ntp_enabled
    if machine.is_ntp_enabled:
        yield "time.ntp_servers", list(machine.ntp_servers)


def _group_values(machine: Machine) -> Iterator[tuple[str, Any]]:
    yield "ha.role", machine.role
    yield "ha.health_monitor_interface", machine.health_interface
    yield "ha.direct_connect_interface", machine.direct_interface
    if machine.role != PRIMARY:
        return
    yield "ha.virtual_ip", machine.virtual_ip
    yield "ha.virtual_netmask", machine.virtual_netmask
    yield "ha.recovery", False
    yield "ha.failover_wait_s", float(machine.failover_wait_s)
    yield "witness.kind", machine.witness_kind
    if machine.witness_kind in BY_ADDRESS:
        yield "witness.address", machine.witness_address
    elif machine.witness_kind == ETCD:
        yield "witness.endpoints", list(machine.witness_endpoints)
        for (name, _), path in zip(ETCD_FILES, machine.witness_files, strict=True):
            yield f"witness.{name}", path or NONE
