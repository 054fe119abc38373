"""The items that the guide does not have: failover wait, witness, passwords. Pure data."""

from openmse.setup import rules, texts
from openmse.setup.questions import Item, Question, item, optional_item, says
from openmse.setup.values import NONE, PRIMARY, SECONDARY, View

CONSOLE, OTHER_PRIMARY, ETCD = "console", "other primary", "etcd"
KINDS = (CONSOLE, OTHER_PRIMARY, ETCD, NONE)
BY_ADDRESS = (CONSOLE, OTHER_PRIMARY)


def modern_items() -> tuple[Item, ...]:
    """In the order in which they are asked, after the guide's."""
    return (_failover_wait(), _witness(), _management(), _pairing_secondary(), _pairing_primary())


def _is_primary(view: View) -> bool:
    return view.role == PRIMARY


def _is_secondary(view: View) -> bool:
    return view.role == SECONDARY


def _failover_wait() -> Item:
    return item(
        "wait",
        says("failover wait"),
        lambda view: f"Current failover wait=[{view.machine.failover_wait_s} seconds]",
        Question(
            id="wait.seconds",
            key="ha.failover_wait_s",
            key_kind="number",
            intro=says(texts.FAILOVER_WAIT),
            prompt=says("Enter the failover wait in seconds"),
            suggested=lambda view: view.machine.failover_wait_s,
            fallback=says("5"),
            rule=rules.failover_wait,
        ),
        when=_is_primary,
    )


def _witness() -> Item:
    return item(
        "witness",
        says("witness"),
        lambda view: f"Current witness=[{shown_witness(view)}]",
        Question(
            id="witness.kind",
            key="witness.kind",
            intro=says(f"{texts.WITNESS}\n\n{texts.WITNESS_NONE}"),
            prompt=says("Select the witness [console/other primary/etcd/none]"),
            suggested=lambda view: (
                view.machine.witness_kind
                if view.machine.is_configured or view.machine.founded
                else CONSOLE
            ),
            fallback=says(CONSOLE),
            rule=rules.one_of(KINDS, "witness"),
        ),
        Question(
            id="witness.address",
            key="witness.address",
            intro=says(texts.WITNESS_ADDRESS),
            prompt=says("Enter the IP address of the witness"),
            suggested=lambda view: view.machine.witness_address,
            fallback=lambda view: view.machine.witness_address,
            rule=rules.other_address,
            when=lambda view: view.witness_kind in BY_ADDRESS,
        ),
        *_etcd(),
        when=_is_primary,
    )


def shown_witness(view: View) -> str:
    """The witness that is set now."""
    machine = view.machine
    where = machine.witness_address or " ".join(machine.witness_endpoints)
    return f"{machine.witness_kind} {where}".strip()


def _is_etcd(view: View) -> bool:
    return view.witness_kind == ETCD


def _etcd_file(number: int, name: str, what: str) -> Question:
    return Question(
        id=f"witness.{name}",
        key=f"witness.{name}",
        intro=says(texts.ETCD_FILES if number == 0 else ""),
        prompt=says(f"Enter the file of {what}"),
        suggested=lambda view: view.machine.witness_files[number] or NONE,
        fallback=lambda view: view.machine.witness_files[number] or NONE,
        rule=rules.file_path,
        when=_is_etcd,
    )


def _etcd() -> tuple[Question, ...]:
    endpoints = Question(
        id="witness.endpoints",
        key="witness.endpoints",
        key_kind="list",
        intro=says(texts.ETCD_ENDPOINTS),
        prompt=says("Enter etcd endpoints"),
        suggested=lambda view: " ".join(view.machine.witness_endpoints),
        rule=rules.endpoints,
        when=_is_etcd,
    )
    files = [_etcd_file(number, name, what) for number, (name, what) in enumerate(ETCD_FILES)]
    return (endpoints, *files)


ETCD_FILES = (
    ("ca_file", "the authority's certificate"),
    ("cert_file", "this client's certificate"),
    ("key_file", "this client's key"),
)


def _password(name: str, key: str, what: str) -> tuple[Question, Question]:
    return (
        Question(
            id=f"{name}.password",
            key=key,
            key_kind="file",
            prompt=says(f"Enter {what}"),
            rule=rules.password,
            is_secret=True,
        ),
        Question(
            id=f"{name}.confirm",
            prompt=says(f"Enter {what} again"),
            rule=rules.same_as(f"{name}.password"),
            is_secret=True,
        ),
    )


def _management() -> Item:
    return optional_item(
        "management",
        says("management password"),
        says(texts.MANAGEMENT),
        *_password("management", "management.password_file", "a management password"),
    )


def _pairing_secondary() -> Item:
    def now(view: View) -> str:
        word = "set" if view.machine.has_pairing_password else "not set"
        return f"{texts.PAIRING_SECONDARY}\n\nThe pairing password is currently {word}."

    return optional_item(
        "pairing",
        says("pairing password"),
        now,
        *_password("pairing", "pairing.password_file", "a pairing password"),
        when=_is_secondary,
    )


def _pairing_primary() -> Item:
    return optional_item(
        "peer",
        says("pairing"),
        says(texts.PAIRING_PRIMARY),
        Question(
            id="peer.address",
            key="pairing.secondary",
            prompt=says("Enter the IP address of the secondary"),
            rule=rules.other_address,
        ),
        when=_is_primary,
    )
