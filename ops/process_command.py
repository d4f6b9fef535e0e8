"""What the commands of the processes share: `up` starts these as its children."""

from __future__ import annotations

import argparse
import gc
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from engine.errors import ExchangeError
from ops.cli import EXIT_FAILED, EXIT_OK, Run, Subparsers, add_command, settings_of
from ops.logs import configure_logging
from ops.processes import run_until_signal
from ops.settings import Settings

logger = logging.getLogger("ops")

_COLLECT_AFTER = 50_000
"""Objects made before the collector looks for cycles. Messages, orders and rows form none: their
reference counts free them. Looking at all that rests in a book or a ring is time lost, 8 to 28 %
at the default of 700. What does form cycles, errors with their tracebacks, waits a little longer.
"""

_DETAILS = """\
Logs to standard error. SIGTERM and Ctrl-C stop it cleanly. Redis and PostgreSQL are those
of redis_url and postgres_url, or of the `shardex up` that runs on the same var_dir."""


def add_process(
    commands: Subparsers, name: str, run: Run, *, summary: str
) -> argparse.ArgumentParser:
    """Add the command of a process: see ``add_command``."""
    return add_command(commands, name, run, summary=summary, details=_DETAILS)


def run_process(
    args: argparse.Namespace, main: Callable[[Settings], Coroutine[Any, Any, None]]
) -> int:
    """Be a process until a signal ends it, and return the exit code."""
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
