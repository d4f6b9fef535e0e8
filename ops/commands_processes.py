"""The exchange's processes, each alone: what `up` starts as its children."""

from __future__ import annotations

import argparse
import gc
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from engine.errors import ExchangeError
from ops.cli import EXIT_FAILED, EXIT_OK, Subparsers, add_command, settings_of
from ops.endpoints import find_postgres, find_redis
from ops.engine_process import run_engine
from ops.logs import configure_logging
from ops.processes import run_until_signal
from ops.settings import Settings
from ops.wiring import run_gateway, run_marketdata, run_writer

logger = logging.getLogger("ops")

_COLLECT_AFTER = 50_000
"""Objects made before the collector looks for cycles. Messages, orders and rows form none: their
reference counts free them. Looking at all that rests in a book or a ring is time lost, 8 to 28 %
at the default of 700. What does form cycles, errors with their tracebacks, waits a little longer.
"""

_DETAILS = """\
Logs to standard error. SIGTERM and Ctrl-C stop it cleanly. Redis and PostgreSQL are those
of redis_url and postgres_url, or of the `shardex up` that runs on the same var_dir."""


def add_parsers(commands: Subparsers) -> None:
    """Add gateway, engine, marketdata and writer."""
    parser = add_command(commands, "gateway", _gateway, summary="Run one gateway", details=_DETAILS)
    parser.add_argument("--name", default="gateway-1", help="unique name (default: gateway-1)")
    parser.add_argument("--port", type=int, help="instead of gateway.port; must be free")
    parser = add_command(
        commands, "engine", _engine, summary="Run the engine of one shard", details=_DETAILS
    )
    parser.add_argument("--shard", type=int, required=True, metavar="ID", help="of [[shards]]")
    parser.add_argument(
        "--standby",
        action="store_true",
        help="be the shard's second engine: follow the first, and lead when it is gone",
    )
    add_command(commands, "marketdata", _marketdata, summary="Run market data", details=_DETAILS)
    add_command(
        commands, "writer", _writer, summary="Run the writer to PostgreSQL", details=_DETAILS
    )


def _gateway(args: argparse.Namespace) -> int:
    return _run(
        args,
        lambda settings: run_gateway(
            settings, find_redis(settings, "gateway"), args.name, args.port or settings.gateway.port
        ),
    )


def _engine(args: argparse.Namespace) -> int:
    return _run(
        args,
        lambda settings: run_engine(
            settings, find_redis(settings, "engine"), args.shard, standby=args.standby
        ),
    )


def _marketdata(args: argparse.Namespace) -> int:
    return _run(args, lambda settings: run_marketdata(settings, find_redis(settings, "marketdata")))


def _writer(args: argparse.Namespace) -> int:
    return _run(
        args,
        lambda settings: run_writer(
            settings, find_redis(settings, "writer"), find_postgres(settings)
        ),
    )


def _run(args: argparse.Namespace, main: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    settings = settings_of(args)
    configure_logging(settings.log_level)
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    try:
        run_until_signal(main(settings))
    except ExchangeError as error:
        logger.error("%s", error)
        return EXIT_FAILED
    except Exception:
        logger.exception("stopped by a bug")
        return EXIT_FAILED
    return EXIT_OK
