"""TlsDoor: what it does when the system gives no socket. With clients: integration/test_tls.py."""

from __future__ import annotations

import asyncio
import errno
import logging
from pathlib import Path
from typing import NoReturn

import pytest

from gateway import tls
from gateway.tls import TlsDoor, TlsFiles
from tests.certificates import Authority
from tests.helpers import eventually_async


async def test_want_of_file_descriptors_is_waited_out_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = Authority(tmp_path).issue("localhost")
    tries = 0

    async def refuse(listener: object) -> NoReturn:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(tls, "_ACCEPT_RETRY_S", 0.001)
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", refuse)
    door = TlsDoor(
        TlsFiles(cert, key, None),
        make_protocol=asyncio.Protocol,
        room=lambda: 1,
        spawn=asyncio.ensure_future,
        handshakes_max=1,
        handshake_timeout_s=1,
    )
    with caplog.at_level(logging.WARNING):
        door.open("127.0.0.1", 0)
        await eventually_async(lambda: tries >= 5)
        door.close()
    assert caplog.text.count("No connection can be accepted") == 1
