"""Become another program that ends with its parent, and gives up root first.

Run as a script (`python -I -S launch.py …`, about 15 ms), never imported: what it does between fork
and exec would be unsafe in a process that has threads, which is why it is not a `preexec_fn`.

    launch.py PARENT_PID DEATH_SIGNAL UID GID CAPABILITY PROGRAM [ARGUMENT…]

DEATH_SIGNAL is what the program gets when the thread that started it ends. UID and GID are -1 to
stay who we are. CAPABILITY is -1 or the one capability that is kept while root is given up.
Sources: prctl(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _become(libc: ctypes.CDLL, uid: int, gid: int, capability: int) -> None:
    """Change to an account, keeping at most one capability, beyond the exec too."""
    if capability >= 0:
        # Keeps capabilities over the change, and lets access(2) count them, by which initdb asks
        # whether it may run postgres.
        _check(
            libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "keep capabilities"
        )
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if capability >= 0:
        assert capability < 32, "Invariant: the capability stands in the first of the two words"
        bit = 1 << capability
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        # Two words each of: effective, permitted, inheritable.
        sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
        _check(libc.capset(header, sets), "reduce capabilities")
        _check(
            libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0),
            "hand on the capability",
        )


def main(arguments: list[str]) -> None:
    """Do as the arguments say (see above); returns never, exits 127 where it fails."""
    parent_pid, death_signal, uid, gid, capability = (int(text) for text in arguments[:5])
    program = arguments[5:]
    libc = ctypes.CDLL(None, use_errno=True)
    if uid >= 0:
        _become(libc, uid, gid, capability)
    # After the change of account, which clears it.
    _check(libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0), "end with the parent")
    if os.getppid() != parent_pid:
        # The parent ended before the line above: nobody would tell us any more.
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as e:
        print(f"cannot start {sys.argv[6]}: {e}", file=sys.stderr)
        sys.exit(127)
