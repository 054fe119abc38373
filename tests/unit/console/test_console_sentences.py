"""What engines say, in every language: codes, reasons, alarms, kinds of events; or why not.

The sentences are read from the sources, so that one which is added or changed there is missed here.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from openmse.console.filters import all_filters
from openmse.console.i18n import LANGUAGES, LOCALES, translations
from openmse.console.sentences import pattern, sentences
from openmse.console.words import WORDS
from openmse.errors import CommandRefused

SOURCES = Path(__file__).parents[3] / "src/openmse"
OTHERS = [language for language in LANGUAGES if language != "en"]

TERMINAL_ONLY = {
    "MSE-SET": "mse setup is a dialogue on the machine's own terminal",
    "MSE-INS": "mse install runs before there is a management API",
    "MSE-ENG": "msed start, stop and status run on the machine's own terminal",
    "MSE-LAB": "the laboratory is no part of a deployment",
    "MSE-000": "the base class, never raised itself",
}
"""Families of codes that never reach a console, and why."""

SPEAKING = (
    "ha/*.py",
    "node/control/alarms.py",
    "node/control/handler.py",
    "node/direct.py",
    "node/drivers/peer/mesh.py",
    "node/drivers/postgres/connection.py",
    "node/drivers/postgres/create.py",
    "node/drivers/postgres/disk.py",
    "node/drivers/postgres/instance.py",
    "node/drivers/postgres/process.py",
    "node/drivers/postgres/rejoin.py",
    "node/drivers/postgres/session.py",
    "node/drivers/postgres/sidecar.py",
    "node/runtime/facts.py",
    "node/runtime/group_runtime.py",
    "node/runtime/links.py",
    "node/runtime/pairing.py",
    "node/runtime/pairing_call.py",
    "node/runtime/pairing_desk.py",
    "node/runtime/pairing_host.py",
    "node/runtime/parting.py",
    "node/runtime/readmission.py",
    "api/readmission.py",
    "console/live/*.py",
    "console/nodes/*.py",
    "console/pages/*.py",
    "console/people/*.py",
    "console/store/engines.py",
    "console/store/people.py",
    "console/store/past.py",
    "console/errors.py",
    "console/managing.py",
    "console/pairing.py",
    "console/app.py",
    "console/headers.py",
    "console/licensing.py",
    "console/server_facts.py",
    "console/engine_steps.py",
    "platform/engine.py",
    "platform/exchange.py",
    "platform/licence.py",
    "platform/pairing.py",
)
"""Whose every sentence may be read in a console."""
SILENT = {
    "ha/invariants.py": "only simulators and checkers read these",
    "ha/diagram.py": "draws the documents",
}
UNTRANSLATABLE = {
    "{1}: {2}.": "an address with what a library said of it",
    "{1} {3}.": "a node and what its direct connection is now, each of which is known",
}


def said_in(path: Path) -> Iterator[str]:
    """The sentences of a source: literals and f-strings, their values as {1}, {2} …"""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))  # docstrings
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            for number, part in enumerate(node.values, 1):
                is_text = isinstance(part, ast.Constant)
                text += part.value if is_text else f"{{{number}}}"  # type: ignore[attr-defined]
        if re.fullmatch(r"['A-Z0-9{].* .*[.!?]", text.strip(), re.DOTALL):
            yield text.strip()


SENTENCES = sorted(
    {
        (str(path.relative_to(SOURCES)), text)
        for glob in SPEAKING
        for path in SOURCES.glob(glob)
        if str(path.relative_to(SOURCES)) not in SILENT
        for text in said_in(path)
        if text not in UNTRANSLATABLE
    }
)


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_is_known(language: str) -> None:
    """With names and figures in its places, as an engine would say it."""
    known = sentences(language).known
    assert len(SENTENCES) > 250
    filled = {text: re.sub(r"\{(\d+)\}", r"x\1", text) for _, text in SENTENCES}
    missing = [(file, text) for file, text in SENTENCES if known(filled[text]) is None]
    assert missing == []


def test_why_nots_are_among_them() -> None:
    """The reasons that the core gives are found by this way of reading at all."""
    texts = {text for _, text in SENTENCES}
    for sample in ("{1} is not heard.", "There is no witness.", "The failback type is manual."):
        assert sample in texts


def _codes() -> set[str]:
    found = set()
    for path in SOURCES.rglob("*.py"):
        found |= set(re.findall(r"\bMSE-[A-Z]{2,5}-\d{3}\b|\bMSE-000\b", path.read_text()))
    return {code for code in found if code[:7] not in TERMINAL_ONLY}


def _catalogue(language: str, context: str) -> dict[str, str]:
    with (LOCALES / language / "LC_MESSAGES" / "engine.po").open("rb") as file:
        entries = read_po(file, locale=language)
    return {str(m.id): str(m.string) for m in entries if m.id and m.context == context}


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_every_error_code_has_a_meaning(language: str) -> None:
    """Or belongs to a family that never reaches a console."""
    kept = _catalogue(language, "code")
    assert len(_codes()) > 100
    assert _codes() - set(kept) == set()
    assert all(kept.values())


def _kinds() -> set[str]:
    """Kinds of events: the first argument wherever something is noted."""
    found = set()
    for path in [*SOURCES.glob("ha/*.py"), *SOURCES.glob("node/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or len(node.args) < 3:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            first, second = node.args[0], node.args[1]
            is_severity = not isinstance(second, ast.Constant) or second.value in (
                *("info", "warning", "error"),
            )
            if name in ("note", "_note", "Note") and isinstance(first, ast.Constant):
                if isinstance(first.value, str) and is_severity:
                    found.add(first.value)
    operations = ("handover", "takeover", "release")
    return found | {f"{one}_{how}" for one in operations for how in ("done", "failed")}


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_every_kind_of_event_has_a_name(language: str) -> None:
    """For the list of events and its filter."""
    kept = _catalogue(language, "event")
    assert len(_kinds()) > 20
    assert _kinds() - set(kept) == set()
    assert all(kept.values())


def _alarms() -> set[str]:
    """Kinds of alarms: the first argument of each, also where it is one of two."""
    found = set()
    for path in (SOURCES / "node/control/alarms.py", SOURCES / "node/runtime/facts.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "Alarm":
                kinds = [one for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant)]
                found |= {one.value for one in kinds if isinstance(one.value, str)}
    return found


def _steps(path: Path) -> set[str]:
    """The names of steps that a source reports, by whatever it calls that."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called in ("progress", "_step"):
                texts = [one for one in node.args if isinstance(one, ast.Constant)]
                found |= {one.value for one in texts if isinstance(one.value, str)}
    return found


def test_every_step_of_a_pairing_is_a_word() -> None:
    """Those that the engine reports, and those of the console's own part."""
    steps = _steps(SOURCES / "node/runtime/pairing.py") | _steps(
        SOURCES / "console/live/pairing.py"
    )
    assert {"enrolling the witness", "making them voters", "synchronization"} <= steps
    assert steps - set(WORDS) == set()


def test_every_kind_of_alarm_is_a_word() -> None:
    """For the list of engines, which names the most pressing one."""
    assert {"witness_lost", "control_path_broken", "peer_lost", "direct_down"} <= _alarms()
    assert _alarms() - set(WORDS) == set()


@pytest.mark.parametrize("language", OTHERS)
def test_translations_keep_every_value(language: str) -> None:
    """A name or a figure that an engine gave is in the translation, too."""
    with (LOCALES / language / "LC_MESSAGES" / "engine.po").open("rb") as file:
        entries = [m for m in read_po(file, locale=language) if m.id and m.context is None]
    places = re.compile(r"\{(\d)")
    for entry in entries:
        assert set(places.findall(str(entry.id))) == set(places.findall(str(entry.string))), (
            entry.id
        )
        assert pattern(str(entry.id), str(entry.string)).literal.strip(), entry.id


def test_sentences_in_sentences_and_one_after_the_other() -> None:
    """As engines say them; what is not known stays, and so does all of it in English."""
    japanese, english = sentences("ja"), sentences("en")
    nested = "The switchover was dropped: The pair is not in SYNC: mse2 is not heard."
    assert japanese.told(nested) == (
        "スイッチオーバーを中止しました: ペアが SYNC ではありません: mse2 から応答がありません。"
    )
    took = "mse2 owns and serves now; this node follows it. Steps: checkpoint 3 ms, stop 12 ms."
    assert "チェックポイント 3 ms, 停止 12 ms" in japanese.told(took)
    took = f"mse2 owns and serves now; this node follows it. Steps: {STEPS}."
    assert "残りの送信 2443 ms, 所有者の変更 0 ms, 昇格 7 ms" in japanese.told(took)
    assert japanese.known("It rains. mse2 is not heard.") == "It rains. mse2 から応答がありません。"
    assert japanese.known("It rains.") is None
    lost = japanese.told(LOSS)
    assert lost.startswith("データ損失の可能性: ")
    assert "mse1 は、このノードと通信できないまま" in lost
    assert " is " not in lost
    done = "Licence 1f is installed: activation. This node is not paired: its licences are its own."
    assert japanese.told(done).endswith(
        "このノードはペアになっていません。ライセンスはこのノードだけのものです。"
    )
    alarm = japanese.told("The health monitor of mse1 is not heard.")
    assert alarm == "mse1 のヘルスモニタから応答がありません。"
    direct = japanese.told("mse2 has the direct address 192.168.77.2.")
    assert direct == "mse2 の直結アドレスは 192.168.77.2 です。"
    assert japanese.known("Nobody knows what somebody may say one day that is heard.") is None
    assert english.known("mse2 is not heard.") is None
    assert english.told("mse2 is not heard.") == "mse2 is not heard."
    assert (japanese.event("lease_lost"), japanese.event("new_kind")) == ("リース喪失", "new_kind")


STEPS = "checkpoint 3 ms, stop 12 ms, drain 2443 ms, hand_over 0 ms, promote 7 ms"
LOSS = (
    "Possible loss: mse1 was last heard 15 s ago; this node is 0 bytes of WAL behind its last "
    "word, and everything that it has acknowledged alone since then is lost. mse1 will serve "
    "if it is started without seeing this node: power it off or isolate it first. What it accepts "
    "meanwhile is kept aside when it rejoins."
)
"""What is told before a takeover by force: a sentence within a sentence."""


def test_the_original_is_always_shown() -> None:
    """Beneath a translation, or beneath what the code means where the sentence is not known; no
    sentence becomes markup."""
    japanese = all_filters("ja", translations("ja").gettext)
    told = str(japanese["told"]("<b> is not heard."))
    assert "&lt;b&gt; から応答がありません。" in told
    assert '<span class="original" lang="en">&lt;b&gt; is not heard.</span>' in told
    new = CommandRefused("The moon is in the wrong phase.")
    shown = str(japanese["told_error"](new))
    assert shown.startswith("規則により拒否されました。")
    assert "The moon is in the wrong phase." in shown
    english = all_filters("en", translations("en").gettext)
    assert str(english["told_error"](new)) == "The moon is in the wrong phase."


def test_words_have_no_doubles() -> None:
    """Each word once, so that a catalogue is easy to keep."""
    assert len(WORDS) == len(set(WORDS))
