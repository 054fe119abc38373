"""The part of a pair's story in the console that is about licences: what one machine got, both have
in their own files before the owner is lost."""

import tempfile
from pathlib import Path
from typing import Any

from console_stage import Stage
from operating import NODES

KEY = "/etc/openmse/own.key"
TRUSTED = "/etc/openmse/licence-keys"
FILE = "/tmp/story.licence"
BUILT_IN, UPLOADED, BY_HAND = 100, 700, 11
STEP_MS = 40_000


def trust(stage: Stage) -> None:
    """A deployment's key, made on one machine and trusted by both."""
    stage.ok("mse1", "license", "keygen", KEY)
    public = stage.run("mse1", "cat", f"{KEY}.pub").stdout
    for node in NODES:
        script = f"mkdir -p {TRUSTED} && cat > {TRUSTED}/own.pub && sync {TRUSTED}"
        assert stage.run(node, "sh", "-c", script, typed=public).returncode == 0


def issue(stage: Stage, udi: str, kind: str, *more: str) -> str:
    """The text of a licence that this key signs."""
    stage.run("mse1", "rm", "-f", FILE)
    words = ["--udi", udi, "--kind", kind, "--issued-to", "A hospital", "--issued-by", "Its staff"]
    stage.ok("mse1", "license", "issue", "--key", KEY, *words, *more, "--out", FILE)
    return stage.run("mse1", "cat", FILE).stdout


def elements(stage: Stage, page: Any, number: int) -> int:
    """The limit of an engine, asked through the console's API in the person's session."""
    answer = page.request.get(f"{stage.console.url}/api/v1/engines/{number}/licences")
    assert answer.ok, answer.text()
    rows = answer.json()["limits"]
    return int(next(row["limit"] for row in rows if row["kind"] == "elements"))


def license_it(stage: Stage, page: Any) -> None:
    """Two by uploads in the console, which both machines have at once; one by hand on mse1."""
    trust(stage)
    udi = page.request.get(f"{stage.console.url}/api/v1/engines/1/licences").json()["udi"]
    upload(stage, page, issue(stage, udi, "activation"))
    page.wait_for_selector("text=is installed: activation", timeout=STEP_MS)
    upload(stage, page, issue(stage, udi, "elements", "--quantity", str(UPLOADED)))
    page.wait_for_selector(f"text=is installed: {UPLOADED} elements", timeout=STEP_MS)
    assert [elements(stage, page, number) for number in (1, 2)] == [BUILT_IN + UPLOADED] * 2
    stage.picture(page, "07b-licences")
    issue(stage, udi, "elements", "--quantity", str(BY_HAND))
    assert "has this node's licences now" in stage.ok("mse1", "license", "install", FILE)


def upload(stage: Stage, page: Any, text: str) -> None:
    """As a person does it."""
    page.goto(f"{stage.console.url}/engines/1/licences")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.licence"
        file.write_text(text)
        page.set_input_files("input[type=file]", str(file))
        page.click("form:has(input[type=file]) button.primary")
        page.wait_for_load_state()


def they_hold_without_the_owner(stage: Stage, page: Any) -> None:
    """The machine that they are bound to has no power; the other one goes by the same limits, also
    by the licence that nobody has told it of."""
    assert not stage.lab.has_power("mse1")
    wanted = BUILT_IN + UPLOADED + BY_HAND
    stage.until(lambda: elements(stage, page, 2) == wanted, f"mse2 allows {wanted} elements", 15.0)
    shown = stage.ok("mse2", "license", "limits", "--json").replace(" ", "")
    assert f'"limit":{wanted}' in shown
