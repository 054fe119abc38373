"""Builds the file system a machine sees. Runs in the machine's own new mount namespace.

The root is an empty tmpfs with the host's programs bound below it read-only, so that nothing of the
host can be changed from inside and no directory's mode on the host (a clone below /root, a umask
of 077) decides what the machine's unprivileged user can reach. ``/var`` and ``/etc`` lie on the
machine's own disk, an ext4 image: fsync, a full disk and a power cut are real there.
Standard library only.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openmse.lab import linux

OPENMSE_UID = 990
COMMANDS = {
    "mse": "openmse.cli.main:main",
    "getserverinfo": "openmse.cli.info:main_getserverinfo",
    "gethainfo": "openmse.cli.info:main_gethainfo",
    "mse-setup": "openmse.cli.setup:main",
    "msed": "openmse.cli.msed:main",
}
"""The product's commands on a machine's PATH: those that an installation has."""
_SYSTEM_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "nix", "gnu")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun")
_ETC_FROM_HOST = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "login.defs",
    "pam.d",
    "profile",
    "protocols",
    "security",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
)
_VAR_DIRECTORIES = ("cache", "lib", "log/console", "spool")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialFile:
    """A file to put on a new machine's disk."""

    path: str
    content: str
    mode: int = 0o644
    uid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RootSpec:
    """What to build, all paths of the host unless said otherwise."""

    hostname: str
    root: str
    image: str
    logs: str
    share: str
    package: str
    venv: str
    addresses: Sequence[tuple[str, str]] = ()
    """(address, name): the lines of /etc/hosts."""
    extra: Sequence[tuple[str, str]] = ()
    """(path, path in the machine): further trees, read-only; outer ones first."""
    database: str = ""
    """Where the database server's own tree is, as a path in the machine; its bin is on PATH."""
    files: Sequence[InitialFile] = field(default=())


def build(spec: RootSpec) -> None:
    """Build the machine's root and enter it.

    Raises: OSError with the failed step in its text.
    """
    root = Path(spec.root)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    _tmpfs(root, "mode=755,size=16m")
    _bind_system(root)
    _bind_software(root, spec)
    _mount_disk(root, spec)
    _bind(spec.logs, root / "var/log/console")
    _tmpfs(root / "run", "mode=755,size=256m", linux.MS_NOSUID | linux.MS_NODEV)
    _tmpfs(root / "tmp", "mode=1777,size=512m", linux.MS_NOSUID | linux.MS_NODEV)
    (root / "run/lock").mkdir(mode=0o1777)
    _bind(spec.share, root / spec.share.lstrip("/"))
    _build_dev(root)
    for name in ("proc", "sys", "home", "mnt"):
        (root / name).mkdir()
    linux.mount("proc", f"{root}/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.mount("sysfs", f"{root}/sys", "sysfs", linux.MS_NOSUID | linux.MS_NODEV)
    (root / "root").mkdir(mode=0o700)
    linux.pivot_root(spec.root)
    linux.set_hostname(spec.hostname)


def _tmpfs(target: Path, options: str, flags: int = 0) -> None:
    target.mkdir(parents=True, exist_ok=True)
    linux.mount("tmpfs", str(target), "tmpfs", flags, options)


def _bind(source: str, target: Path, *, is_read_only: bool = False) -> None:
    if os.path.isdir(source):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    linux.bind(source, str(target), is_read_only=is_read_only)


def _bind_system(root: Path) -> None:
    for name in _SYSTEM_DIRECTORIES:
        source = Path("/", name)
        if source.is_symlink():
            (root / name).symlink_to(os.readlink(source))
        elif source.is_dir():
            _bind(str(source), root / name, is_read_only=True)


def _bind_software(root: Path, spec: RootSpec) -> None:
    _bind(spec.package, root / "opt/openmse/src/openmse", is_read_only=True)
    _bind(spec.venv, root / "opt/openmse/venv", is_read_only=True)
    for source, target in spec.extra:
        _bind(source, root / target.lstrip("/"), is_read_only=True)
    if spec.database:
        (root / "opt/openmse/database").symlink_to(spec.database)
    bin_dir = root / "opt/openmse/bin"
    bin_dir.mkdir()
    for name, entry in COMMANDS.items():
        module, _, function = entry.partition(":")
        command = bin_dir / name
        command.write_text(
            "#!/opt/openmse/venv/bin/python3\n"
            "import sys\n"
            'sys.path.insert(0, "/opt/openmse/src")\n'
            f"from {module} import {function}\n"
            f"sys.exit({function}())\n"
        )
        command.chmod(0o755)


def _mount_disk(root: Path, spec: RootSpec) -> None:
    disk = root / ".disk"
    disk.mkdir()
    device, descriptor = linux.attach_loop(spec.image)
    try:
        linux.mount(
            device,
            str(disk),
            "ext4",
            linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOATIME,
            "errors=remount-ro",
        )
    finally:
        os.close(descriptor)
    if not (disk / "etc/hostname").exists():
        _fill_new_disk(disk, spec)
        linux.sync_file_system(str(disk))
    for name in ("etc", "var"):
        _bind(str(disk / name), root / name)
    linux.unmount(str(disk))
    disk.rmdir()


def _fill_new_disk(disk: Path, spec: RootSpec) -> None:
    etc, var = disk / "etc", disk / "var"
    (etc / "openmse").mkdir(parents=True)
    for name in _ETC_FROM_HOST:
        _copy(Path("/etc", name), etc / name)
    for name in _VAR_DIRECTORIES:
        (var / name).mkdir(parents=True, exist_ok=True)
    (var / "tmp").mkdir(mode=0o777)
    (var / "tmp").chmod(0o1777)
    (var / "run").symlink_to("/run")
    (var / "lock").symlink_to("/run/lock")
    _write_accounts(etc)
    names = "".join(f"{address}\t{name}\n" for address, name in spec.addresses)
    (etc / "hosts").write_text(f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{names}")
    (etc / "nsswitch.conf").write_text(
        "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n"
        "protocols: files\n"
    )
    (etc / "resolv.conf").write_text("")
    for file in spec.files:
        path = disk / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file.mode)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(file.content)
        os.chown(path, file.uid, file.uid)
    (etc / "hostname").write_text(f"{spec.hostname}\n")  # last: says that the disk is complete


def _copy(source: Path, target: Path) -> None:
    if not os.path.lexists(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _write_accounts(etc: Path) -> None:
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\n"
        "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        f"openmse:x:{OPENMSE_UID}:{OPENMSE_UID}:OpenMSE:/var/lib/openmse:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    (etc / "group").write_text(
        f"root:x:0:\ndaemon:x:1:\ntty:x:5:\nopenmse:x:{OPENMSE_UID}:\nnogroup:x:65534:\n"
    )


def _build_dev(root: Path) -> None:
    dev = root / "dev"
    _tmpfs(dev, "mode=755,size=1m", linux.MS_NOSUID)
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            _bind(f"/dev/{name}", dev / name)
    _tmpfs(dev / "shm", "mode=1777,size=1g", linux.MS_NOSUID | linux.MS_NODEV)
    (dev / "pts").mkdir()
    linux.mount(
        "devpts", str(dev / "pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=0620,gid=5"
    )
    (dev / "ptmx").symlink_to("pts/ptmx")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (dev / name).symlink_to(f"/proc/self/fd{target}")


def make_disk(image: Path, size_bytes: int) -> None:
    """Make a sparse ext4 image, few inodes, nothing left to initialize in the background.

    Raises: OSError; subprocess.CalledProcessError with mkfs's words in ``stderr``.
    """
    descriptor = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    options = "lazy_itable_init=0,lazy_journal_init=1,nodiscard"
    command = ["mkfs.ext4", "-q", "-F", "-i", "65536", "-E", options, str(image)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
