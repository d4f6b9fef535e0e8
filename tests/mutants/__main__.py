"""``python -m tests.mutants``: can the checks fail? Break the exchange on purpose and see.

The checkout's files are copied to a temporary folder, and the unbroken copy must pass every check
that is named in the table. Then each mutant, in a copy of its own, must be found by its check. What
runs is the copy: it stands first on the path of every process, and each copy is asked once whether
its own modules and Lua scripts are what it imports.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
WORKERS = 2
"""Copies at work at once: most of a check is waiting."""

CHECK_TIMEOUT_S = 150
STOP_TIMEOUT_S = 60
PATIENCE_S = 10
"""Of a torture that looks for a mutant: it shall end soon."""

_TORTURE = ("torture", "--fail-fast", "--patience", str(PATIENCE_S))
_RESULT = re.compile(r"^(PASSED|FAILED|ERROR) (\S+)", re.MULTILINE)
_WHERE = (
    "import engine, router, gateway, persistence, ops, router.scripts as scripts\n"
    "print(*[m.__file__ for m in (engine, router, gateway, persistence, ops, scripts)], sep='\\n')"
)


class Done(NamedTuple):
    """How a process ended, and all that it printed."""

    code: int
    out: str


class Verdict(NamedTuple):
    """What became of a check: whether it says what it should, and why it does or does not."""

    is_right: bool
    text: str


def main() -> int:
    """Run the mutants that are named, or all, and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; none: all")
    names = parser.parse_args().names
    chosen = [one for one in MUTANTS if not names or any(name in one.name for name in names)]
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        base = Path(folder) / "base"
        copy_checkout(base)
        with ThreadPoolExecutor(WORKERS) as workers:
            tests = sorted({test for one in chosen for test in (one.found_by, one.alive) if test})
            checks = [workers.submit(passes, base, tests)] if tests else []
            tortures = {one.torture for one in chosen if one.torture}
            checks += [workers.submit(survives, base, arguments) for arguments in tortures]
            broken = {
                one.name: workers.submit(is_found, one, base, Path(folder) / f"{number}")
                for number, one in enumerate(chosen)
            }
            missed = 0
            for check in checks:
                missed += _report("unbroken", check.result())
            for name, found in broken.items():
                missed += _report(name, found.result())
    count = f"{missed} wrong" if missed else "all found"
    print(f"mutants: {len(chosen)}, {count}, {time.monotonic() - began_s:.0f} s")
    return 1 if missed else 0


def _report(name: str, done: Verdict) -> int:
    print(f"{'ok  ' if done.is_right else 'MISS'} {name}: {done.text}", flush=True)
    return 0 if done.is_right else 1


# ---------------------------------------------------------------- checks


def passes(copy: Path, tests: Sequence[str]) -> Verdict:
    """Tell whether the unbroken copy passes all tests that are named."""
    results, text = run_tests(copy, tests)
    wrong = [test for test in tests if results.get(test) != "PASSED"]
    return Verdict(not wrong, f"{len(tests)} tests pass" if not wrong else f"{wrong}\n{text}")


def survives(copy: Path, arguments: Sequence[str]) -> Verdict:
    """Tell whether the unbroken copy survives a torture."""
    done = run(copy, ["-m", "ops", *_TORTURE, *arguments])
    return Verdict(done.code == 0, _said(done))


def is_found(mutant: Mutant, base: Path, copy: Path) -> Verdict:
    """Break a copy and tell whether that is found."""
    shutil.copytree(
        base, copy, ignore=shutil.ignore_patterns("var", "__pycache__", ".pytest_cache")
    )
    try:
        for edit in mutant.edits:
            path = copy / edit.file
            text = path.read_text()
            if text.count(edit.old) != 1:
                return Verdict(False, f"{edit.file} has the text {text.count(edit.old)} times")
            path.write_text(text.replace(edit.old, edit.new))
        check_imports(copy)
        if mutant.torture:
            done = run(copy, ["-m", "ops", *_TORTURE, *mutant.torture])
            is_right = done.code == 1 and " failures: " in done.out.splitlines()[-1]
            return Verdict(is_right, _said(done))
        results, text = run_tests(copy, [mutant.found_by, mutant.alive])
        found, alive = results.get(mutant.found_by), results.get(mutant.alive)
        is_right = (found, alive) == ("FAILED", "PASSED")
        name = mutant.found_by.rpartition("::")[2]
        return Verdict(is_right, f"{name} finds it" if is_right else f"{found}, {alive}\n{text}")
    finally:
        shutil.rmtree(copy)


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[dict[str, str], str]:
    """Run tests in a copy; return what became of each, and the end of what pytest said."""
    done = run(copy, ["-m", "pytest", "-q", "-rA", "--tb=line", "-p", "no:cacheprovider", *tests])
    results: dict[str, str] = {}
    for verdict, test in _RESULT.findall(done.out):
        # One name may stand for several parameters: none of them may fail.
        name = test.partition("[")[0]
        if results.get(name) != "FAILED":
            results[name] = verdict
    return results, "\n".join(done.out.splitlines()[-8:])


# ---------------------------------------------------------------- copies


def copy_checkout(target: Path) -> None:
    """Copy the files that git knows, as they stand now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, copied = ROOT / name, target / name
        if source.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copied)
    check_imports(target)


def check_imports(copy: Path) -> None:
    """Make sure that what runs in a copy is the copy, not the checkout that is installed.

    Raises:
        RuntimeError: it is not.
    """
    done = run(copy, ["-c", _WHERE])
    files = done.out.split()
    if done.code or not files or not all(Path(one).is_relative_to(copy) for one in files):
        raise RuntimeError(f"{copy} does not run its own code: {done.out}")


def run(copy: Path, arguments: Sequence[str]) -> Done:
    """Run Python in a copy, with nothing of this process's settings but which redis-server runs."""
    kept = "SHARDEX_REDIS__BINARY"
    environment = {
        name: value
        for name, value in os.environ.items()
        if name == kept or not name.startswith("SHARDEX_")
    }
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=copy,
        env={**environment, "PYTHONPATH": str(copy)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        out, _ = process.communicate(timeout=CHECK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # It has servers to stop.
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=STOP_TIMEOUT_S)
        out += f"\nno end within {CHECK_TIMEOUT_S} s"
    return Done(process.returncode, out)


def _said(done: Done) -> str:
    """Return the failures that a torture named, or its last line."""
    lines = done.out.strip().splitlines() or ["nothing was said"]
    failures = [line for line in lines if line.startswith("FAILED: ")]
    return failures[0] if failures else lines[-1]


if __name__ == "__main__":
    sys.exit(main())
