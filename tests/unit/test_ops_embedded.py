"""Ports, versions and the launcher of the private servers; the servers: tests/integration."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ops.child_process import launch_command, server_account
from ops.embedded import free_port, port_is_free, program_version
from ops.errors import EmbeddedServerFailed
from tests.helpers import eventually


def test_free_port_is_the_preferred_one_or_the_next() -> None:
    # Below those that the system deals out, to whoever asks meanwhile for any.
    port = free_port(15_000 + os.getpid() % 10_000)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free(port)
        assert port < free_port(port) <= port + 200
    assert free_port(port) == port
    assert free_port(0) > 0


def test_no_free_port_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65_535))
        with pytest.raises(EmbeddedServerFailed, match="no free port"):
            free_port(65_535)


def test_version_is_read_or_the_output_shown() -> None:
    program = Path(sys.executable)
    assert program_version(program, r"Python (\d+)\.(\d+)") == sys.version_info[:2]
    with pytest.raises(EmbeddedServerFailed, match="not understood: Python"):
        program_version(program, r"Redis (\d+)")
    with pytest.raises(EmbeddedServerFailed, match="cannot be used"):
        program_version(Path("/nonexistent"), r"(\d+)")


def test_launcher_says_which_program_it_cannot_start() -> None:
    command = launch_command(["/nonexistent/program"], death_signal=signal.SIGTERM)
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 127
    assert "/nonexistent/program" in result.stderr


def test_launched_program_gets_the_death_signal_when_its_parent_is_killed() -> None:
    parent_code = (
        "import signal, subprocess, sys\n"
        "from ops.child_process import launch_command\n"
        "command = launch_command(['/bin/cat'], death_signal=signal.SIGTERM)\n"
        "child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        # An answer: the program runs, so the launcher is done.
        "child.stdin.write(b'x'); child.stdin.flush(); child.stdout.read(1)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    read_end, write_end = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", parent_code],
        stdin=read_end,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}/exe").exists()
        parent.kill()
    os.close(read_end)
    os.close(write_end)
    assert eventually(lambda: not Path(f"/proc/{pid}/exe").exists())


def test_server_directory_goes_to_an_account_that_is_not_root(tmp_path: Path) -> None:
    account = server_account(tmp_path, [Path(sys.executable)])
    owner = tmp_path.stat().st_uid
    assert owner != 0
    assert owner == (os.geteuid() if account is None else account.uid)
