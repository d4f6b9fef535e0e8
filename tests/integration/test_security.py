"""A venue as `up` runs it: keys and addresses of users, and secrets that must be nowhere."""

from __future__ import annotations

import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ops.errors import FixClientFailed
from ops.fix_client import FixClient
from ops.fix_initiator import Identity, Initiator
from ops.redis_acl import read_passwords
from router import keys
from tests.exchange_process import ExchangeProcess
from tests.helpers import eventually, eventually_async

PLANTED = "planted-secret-7291"
WRONG = "planted-mistake-5512"
KEY = Ed25519PrivateKey.generate()
PUBLIC_KEY = b64encode(KEY.public_key().public_bytes_raw()).decode()
_CHUNK_BYTES = 1 << 20


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    process = ExchangeProcess(
        tmp_path_factory.mktemp("security"), SHARDEX_GATEWAY__SIGNED_LOGON_WINDOW_S="120"
    )
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def account(exchange: ExchangeProcess) -> str:
    added = exchange.json("user", "add", "alice", "--password-stdin", stdin=f"{PLANTED}\n")
    return str(added["sender_comp_id"])


async def log_on(
    exchange: ExchangeProcess, account: str, password: str, *, key: Ed25519PrivateKey | None = None
) -> str:
    """Log on and out again, wholly; return why it was refused, or nothing."""
    identity = Identity(account, exchange.endpoints["target_comp_id"], "alice", password, key)
    client = FixClient(Initiator(identity), on_messages=lambda messages: None)
    try:
        async with client:
            port = exchange.endpoints["fix"][0]["port"]
            await client.connect("127.0.0.1", port, reset=True)
    except FixClientFailed as error:
        return str(error)
    with exchange.redis() as redis:
        await eventually_async(lambda: redis.hget(keys.session(int(account)), "owner") == b"")
    return ""


async def test_user_with_a_key_logs_on_without_a_password(
    exchange: ExchangeProcess, account: str, tmp_path: Path
) -> None:
    assert "Wrong" in await log_on(exchange, account, "", key=KEY)
    pem = tmp_path / "key.pem"
    pem.write_bytes(
        KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    added = exchange.call("user", "key", "add", "alice", "--file", str(pem))
    assert (added.code, added.out) == (0, "alice: key added\n"), added.err
    assert await log_on(exchange, account, "", key=KEY) == ""
    assert exchange.json("user", "key", "list", account) == [PUBLIC_KEY]
    again = exchange.call("user", "key", "add", "alice", PUBLIC_KEY)
    assert again.code == 1 and "has this key already" in again.err
    assert exchange.call("user", "key", "remove", "alice", PUBLIC_KEY).code == 0
    assert exchange.call("user", "key", "list", "alice").out == "no keys\n"
    assert exchange.call("user", "key", "remove", "alice", PUBLIC_KEY).code == 1
    assert "Wrong" in await log_on(exchange, account, "", key=KEY)
    assert await log_on(exchange, account, PLANTED) == ""


@pytest.mark.parametrize("text", ["AAAA", "no base64", "", "ä"])
def test_what_is_no_public_key_is_refused(
    exchange: ExchangeProcess, account: str, text: str, tmp_path: Path
) -> None:
    assert "not an Ed25519 public key" in exchange.call("user", "key", "add", account, text).err
    file = tmp_path / "key.pem"
    file.write_text(text)
    refused = exchange.call("user", "key", "add", account, "--file", str(file))
    assert refused.code == 1 and "not a public key" in refused.err


async def test_user_logs_on_only_from_the_addresses_that_are_set(
    exchange: ExchangeProcess, account: str
) -> None:
    assert exchange.call("user", "addresses", "alice").out == "from everywhere\n"
    assert exchange.call("user", "addresses", "alice", "192.0.2.0/24", "::1").code == 0
    assert exchange.json("user", "addresses", "alice") == ["192.0.2.0/24", "::1/128"]
    assert "Wrong" in await log_on(exchange, account, PLANTED)
    refused = exchange.call("user", "addresses", "alice", "192.0.2.1/24")
    assert refused.code == 1 and "expected networks such as" in refused.err
    assert exchange.call("user", "addresses", "alice", "192.0.2.0/24", "--any").code == 2
    assert exchange.call("user", "addresses", "alice", "--any").code == 0
    assert await log_on(exchange, account, PLANTED) == ""


async def test_gateway_goes_on_when_it_is_told_to_read_its_certificates_again(
    exchange: ExchangeProcess, account: str
) -> None:
    pid = exchange.pid_of("gateway-1")
    os.kill(pid, signal.SIGHUP)
    assert await log_on(exchange, account, PLANTED) == ""
    assert exchange.pid_of("gateway-1") == pid


def test_processes_have_the_rights_of_their_kind_alone(exchange: ExchangeProcess) -> None:
    """That all of it works is what every test with `up` shows."""
    passwords = read_passwords(exchange.var)
    with exchange.redis() as client:
        users = {one["name"]: one["user"] for one in client.client_list()}
    for name, user in users.items():
        kind = name.partition("-")[0]
        if kind in passwords:
            assert user == kind, name
    assert {"gateway", "engine", "marketdata", "writer", "operator"} <= set(users.values())
    environment = Path(f"/proc/{exchange.pid_of('gateway-1')}/environ").read_bytes()
    assert b"redis://gateway:" in environment and b"postgresql://" not in environment
    written = Path(f"/proc/{exchange.pid_of('writer')}/environ").read_bytes()
    assert b"postgresql://shardex_writer:" in written
    connected = "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'shardex_writer'"
    eventually(lambda: exchange.query(connected) == [(True,)])


async def test_nothing_that_members_ask_for_is_refused_by_redis(exchange: ExchangeProcess) -> None:
    peer = await exchange.log_on(1)
    peer.send("35=D|11=r1|55=ALFA-USD|54=1|60=now|38=5|40=2|44=1.00")
    await peer.expect("8", t150="0")
    peer.send("35=V|262=m1|263=1|264=0|265=1|267=2|269=0|269=1|146=1|55=ALFA-USD")
    await peer.expect("W", t262="m1")
    peer.send("35=V|262=m1|263=2|264=0|265=1|267=2|269=0|269=1|146=1|55=ALFA-USD")
    peer.send("35=x|320=l1|559=4")
    answer = await peer.expect_any()
    while answer["35"] == "X":
        # Market data learned of the order after W.
        answer = await peer.expect_any()
    assert (answer["35"], answer["320"]) == ("y", "l1")
    peer.send("35=AF|584=s1|585=7")
    await peer.expect("8", t150="I")
    peer.send("35=q|11=q1|530=7|60=now")
    await peer.expect("r", t531="7")
    await peer.expect("8", t150="4")
    assert exchange.call("phase", "BETA-USD", "halted").code == 0
    assert exchange.call("phase", "BETA-USD", "continuous").code == 0
    await peer.close()
    logs = [path for path in (exchange.var / "log").glob("*.log") if path.stat().st_size]
    assert len(logs) > 4
    assert [path.name for path in logs if b"NOPERM" in path.read_bytes()] == []


# ---------------------------------------------------------------- secrets


async def test_secrets_are_in_no_file_no_log_and_no_command_line(
    exchange: ExchangeProcess, account: str
) -> None:
    exchange.call("user", "key", "add", "alice", PUBLIC_KEY)
    mistaken = await log_on(exchange, account, WRONG, key=KEY)
    assert "Wrong" in mistaken
    assert await log_on(exchange, account, PLANTED, key=KEY) == ""
    peer = await exchange.log_on(0)
    for misplaced in (f"35=D|554={PLANTED}", f"35=0|925={PLANTED}", f"35=ZZ|554={PLANTED}"):
        peer.send(misplaced)
        await peer.expect("3")
    peer.send(f"35=A|98=0|108=30|141=Y|553=x|554={PLANTED}|925={PLANTED}")
    await peer.expect("5")
    await peer.close()
    # Its last message stands in the journal, and so do all before.
    eventually(lambda: "|925=***" in exchange.call("fixlog", "--gateway", "gateway-1").out)
    secrets = [PLANTED.encode(), WRONG.encode(), *_passwords(exchange)]
    assert _files_with(exchange.var, secrets) == []
    assert not any(secret in exchange.output.read_bytes() for secret in _passwords(exchange))
    assert _command_lines_with(exchange.pid, secrets) == []
    logged = exchange.call("fixlog", "--gateway", "gateway-1").out
    assert "554=***" in logged and "96=***" in logged and PLANTED not in logged


def test_files_with_secrets_are_for_their_owner_alone(exchange: ExchangeProcess) -> None:
    found = [
        path
        for path in (
            *(exchange.var / name for name in ("endpoints.json", "demo.json")),
            *(exchange.var / "postgres" / name for name in ("password", "writer-password")),
            *(exchange.var / name for name in ("redis-passwords.json", "redis/users.acl")),
        )
        if path.stat().st_mode & 0o077
    ]
    assert found == []


def _passwords(exchange: ExchangeProcess) -> list[bytes]:
    """Return the passwords of the servers, which endpoints.json and files of their own hold."""
    url = exchange.endpoints["postgres_url"]
    owner = url.rpartition("@")[0].rpartition(":")[2]
    writer = (exchange.var / "postgres" / "writer-password").read_text().strip()
    return [text.encode() for text in (owner, writer, *read_passwords(exchange.var).values())]


def _files_with(directory: Path, secrets: list[bytes]) -> list[tuple[str, bytes]]:
    """Return the files in which a secret stands that is not theirs to keep."""
    kept = {"endpoints.json", "password", "writer-password", "redis-passwords.json"}
    found = [Path(root) / name for root, _, names in os.walk(directory) for name in names]
    paths = [path for path in found if path.is_file() and path.name not in kept]
    assert len(paths) > 10
    return [(path.name, one) for path in paths for one in secrets if _contains(path, one)]


def _contains(path: Path, secret: bytes) -> bool:
    """Tell whether a secret stands in a file; what was a file a moment ago may have gone."""
    before = b""
    with suppress(FileNotFoundError), path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if secret in before + chunk:
                return True
            before = chunk[-len(secret) :]
    return False


def _command_lines_with(pid: int, secrets: list[bytes]) -> list[bytes]:
    """Return the command lines of the venue's processes in which a secret stands."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    lines = []
    for one in processes:
        # PostgreSQL's own come and go.
        with suppress(FileNotFoundError, ProcessLookupError):
            lines.append(Path(f"/proc/{one.pid}/cmdline").read_bytes())
    assert len(lines) > 5 and os.getpid() not in [one.pid for one in processes]
    return [line for line in lines if any(secret in line for secret in secrets)]
