"""Full disks, directories that are not ours, peers that are somebody else's."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec.structs
import psycopg
import pytest
from postgres_pair import FIRST, Authority, Pair

from openmse.errors import CommandRefused
from openmse.ha.local import DbProcess, DbRole, DbView, Receiver, Rung
from openmse.ha.values import Lineage
from openmse.node.drivers.postgres.sidecar import Sidecar

MIB = 1024 * 1024
DISK_BYTES = 400 * MIB
PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


def is_serving(view: DbView) -> bool:
    return view.process is DbProcess.UP and view.role is DbRole.PRIMARY


@pytest.fixture
def small_disk(pair: Pair) -> Iterator[Path]:
    """An ext4 of 400 MiB where the data of mse1 goes; unmounted afterwards."""
    image = pair.root / "disk.img"
    with open(image, "wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(
        ["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, timeout=60, capture_output=True
    )
    place = pair.root / "mse1" / "pg"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop,errors=remount-ro", str(image), str(place)],
        timeout=60,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no loop mounts here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=60)


def _source(place: Path) -> str:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(fields[0] for fields in mounts if fields[1] == str(place))


def _plant_disk_error(place: Path) -> None:
    """The kernel answers an error with a read-only remount, as it was told at mount."""
    trigger = Path(f"/sys/fs/ext4/{os.path.basename(_source(place))}/trigger_fs_error")
    try:
        trigger.write_text("planted by a test")
    except OSError as error:
        pytest.skip(f"this kernel plants no file system errors: {error}")


def fill(place: Path) -> Path:
    """Take every free block."""
    ballast = place / "ballast"
    with open(ballast, "wb") as file:
        for size in (1024 * 1024, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
                    file.flush()
            except OSError:
                continue
    return ballast


@needs_root
@pytest.mark.root
async def test_a_full_disk_is_a_failure_with_a_name(pair: Pair, small_disk: Path) -> None:
    one = await pair.primary(disk_reserve_bytes=16 * 1024 * 1024)
    await one.sql("create table t (x text)")
    ballast = fill(small_disk)
    await one.until(lambda v: not v.is_healthy)
    assert "is full" in one.view.failure
    ballast.unlink()
    await one.until(lambda v: v.is_healthy and is_serving(v))
    await one.sql("insert into t values ('still here')")
    fill(small_disk)
    await one.until(lambda v: not v.is_healthy)
    one.want(role=DbRole.DOWN)
    await one.until(lambda v: v.process is DbProcess.DOWN)
    assert one.view.is_clean, "the reserve was given up, so the stop could write its checkpoint"


@needs_root
@pytest.mark.root
async def test_a_read_only_file_system_is_a_failure_with_a_name(
    pair: Pair, small_disk: Path
) -> None:
    one = await pair.primary()
    _plant_disk_error(small_disk)
    await one.until(lambda v: not v.is_healthy and "is read-only" in v.failure)


@needs_root
@pytest.mark.root
async def test_a_dead_peer_never_fills_the_disk(pair: Pair, small_disk: Path) -> None:
    """More WAL than the disk is large, while the peer is off: what is kept for it is bounded."""
    one = await pair.primary()
    await one.sql("create table t (x int)")
    question = "select slot_name, active from pg_replication_slots"
    while await one.sql(question) != [(one.settings.slot_name, False)]:
        await asyncio.sleep(0.05)
    bound = 0
    for name in ("max_slot_wal_keep_size", "max_wal_size"):
        bound += int(str((await one.sql(f"select pg_size_bytes(current_setting('{name}'))"))[0][0]))
    assert bound <= 256 * MIB
    kept, rounds = 0, DISK_BYTES // (8 * MIB) + 6
    load = "insert into t values (1); select pg_logical_emit_message(true, 'load', repeat('x', %s))"
    connection = await one.connect()
    for _ in range(rounds):
        await connection.execute(load % (8 * MIB))
        kept = max(kept, _bytes_in(one.settings.data_dir / "pg_wal"))
        assert one.view.is_healthy, one.view.failure
    await connection.close()
    print(f"{rounds * 8} MiB written, at most {kept // MIB} MiB kept, bound {bound // MIB} MiB")
    assert kept <= bound + 2 * 16 * MIB, "a segment in use and one made ahead come on top"
    assert await one.sql("select count(*) from t") == [(rounds,)]
    assert shutil.disk_usage(small_disk).free > one.settings.disk_reserve_bytes


def _bytes_in(directory: Path) -> int:
    """The sizes of the files in a directory from which others remove files meanwhile."""
    found = 0
    for entry in os.scandir(directory):
        with contextlib.suppress(FileNotFoundError):
            found += entry.stat().st_size
    return found


async def test_no_data_directory_is_said_and_nothing_made(pair: Pair) -> None:
    one = pair.node("mse1")
    one.want(role=DbRole.PRIMARY, lineage=FIRST)
    await one.until(lambda v: not v.is_healthy)
    assert "no database yet" in one.view.failure
    one.want(role=DbRole.STANDBY, lineage=FIRST)
    await one.until(lambda v: v.rung_needed is Rung.REBUILD)
    assert one.view.role is DbRole.DOWN
    assert not one.settings.data_dir.exists()


async def test_a_second_creation_is_refused(pair: Pair) -> None:
    one = await pair.primary()
    with pytest.raises(CommandRefused):
        await one.lane.create_primary(FIRST)
    assert is_serving(one.view)


async def test_a_foreign_data_directory_is_left_untouched(pair: Pair) -> None:
    one = await pair.primary()
    await one.close()
    data, state = one.settings.data_dir, one.settings.state_dir
    (state / "directory.json").rename(state / "elsewhere.json")
    before = _picture(data)
    again = pair.node("mse1")
    for role in (DbRole.PRIMARY, DbRole.STANDBY):
        again.want(role=role, lineage=FIRST, rung=Rung.REBUILD)
        await again.until(lambda v: "was not made by this installation" in v.failure)
        assert not again.view.is_healthy
        assert not again.view.is_complete
    assert _picture(data) == before


async def test_a_data_directory_of_another_group_is_left_untouched(pair: Pair) -> None:
    one = await pair.primary()
    await one.close()
    sidecar = Sidecar(one.settings.state_dir)
    record = sidecar.read_record()
    assert record is not None
    sidecar.write_record(msgspec.structs.replace(record, system_identifier="42"))
    before = _picture(one.settings.data_dir)
    again = pair.node("mse1")
    again.want(role=DbRole.PRIMARY, lineage=FIRST)
    await again.until(lambda v: "another group" in v.failure)
    assert _picture(one.settings.data_dir) == before


def _picture(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in directory.rglob("*")
    }


async def test_a_damaged_record_is_said(pair: Pair) -> None:
    one = await pair.primary()
    await one.close()
    (one.settings.state_dir / "directory.json").write_text('{"directory_id": "12')
    again = pair.node("mse1")
    again.want(role=DbRole.PRIMARY, lineage=FIRST)
    await again.until(lambda v: "is damaged" in v.failure)
    assert not again.view.is_healthy


async def test_another_history_is_not_promoted(pair: Pair) -> None:
    one, two = await pair.in_sync()
    two.want(
        role=DbRole.PRIMARY,
        lineage=Lineage(0, 9, "mse2"),
        parent_lineage=Lineage(0, 8, "mse1"),
    )
    await two.until(lambda v: not v.is_healthy)
    assert "is not promoted" in two.view.failure
    assert await two.sql("select pg_is_in_recovery()") == [(True,)]
    assert is_serving(one.view)


async def test_a_wrong_certificate_does_not_replicate(pair: Pair) -> None:
    one = await pair.primary()
    elsewhere = pair.root / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    stranger = Authority(elsewhere)
    cert, key = stranger.issue("mse2-client", "openmse_replication", pair.addresses["mse2"])
    tls = pair.settings["mse2"].tls
    two = pair.node("mse2", tls=replace(tls, client_cert=cert, client_key=key))
    two.want(role=DbRole.STANDBY, lineage=FIRST, names=True, rung=Rung.REBUILD)
    await two.until(lambda v: bool(v.failure))
    assert not two.settings.data_dir.exists()
    assert not one.view.peer_streaming
    assert two.view.receiver is Receiver.NONE


async def test_an_interrupted_copy_is_not_eligible_and_is_made_again(pair: Pair) -> None:
    one, two = await pair.in_sync()
    await two.close()
    Sidecar(two.settings.state_dir).set_marker("rewinding")
    again = pair.node("mse2")
    again.want(role=DbRole.PRIMARY, lineage=Lineage(0, 2, "mse2"), parent_lineage=FIRST)
    await again.until(lambda v: "incomplete" in v.failure)
    assert not again.view.is_complete
    again.want(role=DbRole.STANDBY, lineage=FIRST, names=True, rung=Rung.REBUILD)
    await again.until(lambda v: v.receiver is Receiver.STREAMING, 60)
    assert again.view.is_complete
    assert is_serving(one.view)


async def test_a_client_needs_tls_and_its_password(pair: Pair) -> None:
    one = await pair.primary()
    password = (one.settings.state_dir / "client_password").read_text()
    base = (
        f"hostaddr={pair.addresses['mse1']} port={one.settings.port} user=openmse dbname=openmse "
        f"host=mse1 sslrootcert={one.settings.tls.authority} "
    )
    connection = await psycopg.AsyncConnection.connect(
        base + f"sslmode=verify-full password={password}", autocommit=True
    )
    await connection.execute("create table t (x int)")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="ALTER SYSTEM is not allowed"):
        await connection.execute("alter system set fsync = off")
    await connection.close()
    for wrong in (
        f"sslmode=disable password={password}",
        "sslmode=verify-full password=guess",
        f"sslmode=verify-full password={password} user=openmse_admin dbname=postgres",
        f"sslmode=verify-full password={password} user=openmse_replication dbname=postgres",
    ):
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(base + wrong)
    assert password not in one.settings.log_file.read_text()


def _as_the_page_says(directory: Path, authority: Authority, role: str) -> str:
    """A client's certificate, made with the page's own commands; how libpq is told to show it."""
    if shutil.which("openssl") is None:
        pytest.skip("the page's commands need openssl")
    text = PAGE.read_text().partition("## Clients with certificates")[2]
    block = text.partition("```sh\n")[2].partition("```")[0]
    assert "-subj /CN=openmse " in block, "the page has the commands"
    script = block.replace("/CN=openmse ", f"/CN={role} ")
    script = script.replace("pki=/var/lib/openmse/pki", f"pki={authority.directory}")
    assert script.count(str(authority.directory)) == 1
    directory.mkdir()
    made = subprocess.run(
        ["sh", "-euc", script], cwd=directory, capture_output=True, text=True, timeout=30
    )
    assert made.returncode == 0, made.stderr
    assert (directory / "client.key").stat().st_mode & 0o077 == 0
    return f"sslcert={directory}/client.crt sslkey={directory}/client.key "


async def test_a_client_shows_a_certificate_of_the_group(pair: Pair) -> None:
    one = await pair.primary(client_auth="cert")
    authority = pair.authority
    stranger = pair.root / "elsewhere"
    stranger.mkdir(mode=0o755)
    password = (one.settings.state_dir / "client_password").read_text()
    base = (
        f"hostaddr={pair.addresses['mse1']} port={one.settings.port} dbname=openmse host=mse1 "
        f"sslmode=verify-full sslrootcert={authority.path} "
    )
    ours = _as_the_page_says(pair.root / "client", authority, "openmse")
    other = _as_the_page_says(pair.root / "other", authority, "somebody")
    foreign = _as_the_page_says(pair.root / "foreign", Authority(stranger), "openmse")
    connection = await psycopg.AsyncConnection.connect(base + ours + "user=openmse")
    cursor = await connection.execute(
        "select current_user, client_dn from pg_stat_ssl where pid = pg_backend_pid()"
    )
    assert await cursor.fetchone() == ("openmse", "/CN=openmse")
    await connection.close()
    for wrong, words in (
        ("user=openmse", "requires a valid client certificate"),
        (f"user=openmse password={password}", "requires a valid client certificate"),
        (foreign + "user=openmse", "SSL"),
        (other + "user=openmse", "certificate authentication failed"),
        (ours + "user=openmse_admin", "pg_hba.conf rejects connection"),
        (ours + "user=openmse_replication dbname=postgres", "certificate authentication failed"),
    ):
        with pytest.raises(psycopg.OperationalError, match=words):
            await psycopg.AsyncConnection.connect(base + wrong)
    assert await one.sql("select count(*) from pg_stat_activity where usename = 'openmse'") == [
        (0,)
    ]


async def test_a_port_in_use_is_said(pair: Pair) -> None:
    one = pair.node("mse1", restart_budget=0)
    await one.lane.create_primary(FIRST)
    with socket.create_server((pair.addresses["mse1"], one.settings.port)):
        one.want(role=DbRole.PRIMARY, lineage=FIRST)
        await one.until(lambda v: not v.is_healthy)
        assert "could not create any TCP/IP sockets" in one.view.failure
    await one.until(is_serving)
    await one.until(lambda v: v.is_healthy or "died" in v.failure)
