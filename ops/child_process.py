"""Children that end with their parent, under an account that is not root.

PR_SET_PDEATHSIG goes by the *thread* that started the child, so a child belongs on a thread that
lives as long as it does: the main one.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import EmbeddedServerFailed

_LAUNCHER = Path(__file__).with_name("launch.py")
_CAP_DAC_OVERRIDE = 1
_CAP_SETPCAP = 8


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a program runs as: ids, and the capability it needs to reach its files, or -1."""

    uid: int
    gid: int
    capability: int


def launch_command(
    program: Sequence[str], *, death_signal: signal.Signals, account: Account | None = None
) -> list[str]:
    """Return the command that runs a program which ends when this process (this thread) does.

    Args:
        program: absolute path and arguments.
        death_signal: what the program then gets.
        account: whom to run it as; None for the same.
    """
    who = account or Account(-1, -1, -1)
    ids = (os.getpid(), death_signal.value, who.uid, who.gid, who.capability)
    return [sys.executable, "-I", "-S", str(_LAUNCHER), *map(str, ids), *program]


def server_account(directory: Path, files: Sequence[Path]) -> Account | None:
    """Choose whom to run a server as, and make the directory its own.

    PostgreSQL refuses to run as root, and Redis has no need to. Under root the server runs as the
    owner of its directory, which is `nobody` for a new one. Where that account may not pass through
    the directories above (a checkout under a home of mode 0700), it is given CAP_DAC_OVERRIDE,
    rather than opening those directories to everybody.

    Args:
        directory: the server's own data directory, existing.
        files: what it reads elsewhere: its executable, its configuration.

    Returns:
        The account, or None to run as the present one, which is not root.

    Raises:
        EmbeddedServerFailed: neither way is open; names the path in the way.
    """
    if os.geteuid() != 0:
        return None
    owner = directory.stat()
    uid, gid = owner.st_uid, owner.st_gid
    if uid == 0:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
        os.chown(directory, uid, gid)
    folders = [folder for path in (directory, *files) for folder in path.parents]
    obstacle = _obstacle(uid, folders, stat.S_IXOTH) or _obstacle(uid, files, stat.S_IROTH)
    if obstacle is None:
        return Account(uid, gid, -1)
    if not _have_capabilities(_CAP_DAC_OVERRIDE, _CAP_SETPCAP):
        raise EmbeddedServerFailed(
            f"a server does not run as root here, and {obstacle} is closed to uid {uid}, which it "
            "runs as: open it (chmod o+rx), move the checkout, or start everything as another user"
        )
    return Account(uid, gid, _CAP_DAC_OVERRIDE)


def _obstacle(uid: int, paths: Sequence[Path], needed_by_others: int) -> Path | None:
    for path in paths:
        status = path.stat()
        # The owner's permission bits stand six to the left of the others'.
        needed = needed_by_others << 6 if status.st_uid == uid else needed_by_others
        if not status.st_mode & needed:
            return path
    return None


def _have_capabilities(*capabilities: int) -> bool:
    needed = sum(1 << capability for capability in capabilities)
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16) & needed == needed
    return False
