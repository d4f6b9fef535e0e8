"""The conventions that a program can check: who imports whom, what is pure, sizes, leftovers.

A module is pure (no I/O, clock, randomness or environment) where the first paragraph of its
docstring says "Pure."; those of `PURE` must say so. Each rule is a function from a source file to
complaints, and is tried on a bad example as well as on the whole tree.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

# What each package of ours may import of ours, besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "engine": set(),
    "router": {"engine"},
    "gateway": {"engine", "router"},
    "marketdata": {"engine", "router"},
    "persistence": {"engine", "router"},
    "ops": {"engine", "router", "gateway", "marketdata", "persistence"},
}
PACKAGES = set(MAY_IMPORT)

PURE = {
    *(f"engine/{name}.py" for name in ("errors", "enums", "limits", "instrument", "commands")),
    *(f"engine/{name}.py" for name in ("events", "codec", "level", "book", "book_naive", "checks")),
    *(f"engine/{name}.py" for name in ("matching", "shard", "snapshot", "journal", "ring")),
    *(f"router/{name}.py" for name in ("errors", "shards", "keys")),
    *(f"gateway/{name}.py" for name in ("errors", "fix_tags", "fix_framer", "fix_message")),
    *(f"gateway/{name}.py" for name in ("validate", "session_state", "session", "translate")),
    *(f"gateway/{name}.py" for name in ("session_store", "throttle")),
    *(f"marketdata/{name}.py" for name in ("depth", "feed", "candles", "feed_codec", "replica")),
    *(f"persistence/{name}.py" for name in ("errors", "rows", "batch")),
    "ops/venue_file.py",
}
NOT_PURE = {"asyncio", "socket", "select", "selectors", "redis", "psycopg", "os", "time", "random"}
NOT_PURE |= {"secrets", "uuid", "threading", "subprocess", "multiprocessing", "uvloop", "logging"}

# Where a library may be imported, as patterns of paths; in tests/ anywhere.
PLACES = {
    "redis": ("router/*", "ops/embedded*.py"),
    "psycopg": ("persistence/*", "ops/embedded*.py"),
    "psycopg_pool": ("persistence/*",),
    "simplefix": ("gateway/fix_message.py", "ops/fix_client.py"),
    "orjson": ("marketdata/feed_codec.py", "ops/*"),
}
ENVIRONMENT_PLACES = ("ops/settings.py", "tests/*")
# Time is virtual in the simulation.
MAY_SLEEP = ("tests/helpers.py", "tests/bench/*", "tests/simulation/*")

# Without these words no test sleeps or does not run: most files need not be looked at closely.
SUSPICIOUS = re.compile("sleep|skip|xfail")

# Spelled so that this file does not complain about itself.
LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w./])/(?:work|root|home|tmp|Users)" r"/")


LOOKED_AT = (
    *(ast.Import, ast.ImportFrom, ast.Attribute, ast.Call, ast.For, ast.comprehension),
    *(ast.Global, ast.FunctionDef, ast.AsyncFunctionDef, ast.ExceptHandler),
)


@dataclass(frozen=True)
class Source:
    """A source file: its path from the top, its text and its tree."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """The nodes of the kinds that rules look at."""
        return [node for node in ast.walk(self.tree) if isinstance(node, LOOKED_AT)]

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]

    def matches(self, patterns: tuple[str, ...]) -> bool:
        return any(fnmatch(self.path, pattern) for pattern in patterns)

    @cached_property
    def says_pure(self) -> bool:
        docstring = ast.get_docstring(self.tree) or ""
        return re.search(r"\bPure\.", docstring.partition("\n\n")[0]) is not None


@cache
def source_at(path: Path) -> Source:
    """Read a source file, once for all who ask."""
    return Source(path.relative_to(ROOT).as_posix(), path.read_text())


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of each import; `from a import b` yields a.b."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def import_direction(source: Source) -> Iterator[str]:
    if source.package not in PACKAGES:
        return
    allowed = MAY_IMPORT[source.package] | {source.package}
    for line, name in imports(source):
        top = name.partition(".")[0]
        if name.startswith("."):
            yield f"{line} relative import"
        elif top in PACKAGES | {"tests"} and top not in allowed:
            yield f"{line} {source.package} imports {name}"


def library_places(source: Source) -> Iterator[str]:
    if source.package == "tests":
        return
    for line, name in imports(source):
        top = name.partition(".")[0]
        if top in PLACES and not source.matches(PLACES[top]):
            yield f"{line} {top} is imported in {', '.join(PLACES[top])} only"


def environment_places(source: Source) -> Iterator[str]:
    if source.matches(ENVIRONMENT_PLACES):
        return
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"):
            yield f"{node.lineno} the environment is read in ops/settings.py only"


def pure_modules_say_so(source: Source) -> Iterator[str]:
    if source.path in PURE and not source.says_pure:
        yield "1 is pure: its docstring's first paragraph says so"


def pure_modules_import_pure_ones(source: Source) -> Iterator[str]:
    if source.package not in PACKAGES or not source.says_pure:
        return
    for line, name in imports(source):
        if name.partition(".")[0] in NOT_PURE:
            yield f"{line} a pure module imports {name}"
        # The name is a module, or something in one.
        modules = [
            ROOT / f"{part.replace('.', '/')}.py" for part in (name, name.rpartition(".")[0])
        ]
        if name.partition(".")[0] in PACKAGES and any(
            module.exists() and not source_at(module).says_pure for module in modules
        ):
            yield f"{line} a pure module imports {name}, which is not"


def is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    return isinstance(node, ast.Set | ast.SetComp)


def pure_modules_are_deterministic(source: Source) -> Iterator[str]:
    if source.package not in PACKAGES or not source.says_pure:
        return
    for node in source.nodes:
        if isinstance(node, ast.For | ast.comprehension) and is_set(node.iter):
            yield f"{node.iter.lineno} iterates a set, whose order differs between processes"
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("hash", "open", "input", "print"):
            yield f"{node.lineno} a pure module calls {name}()"
        if name.endswith(("datetime.now", "datetime.utcnow", "date.today")):
            yield f"{node.lineno} a pure module reads the clock"


def no_shared_state(source: Source) -> Iterator[str]:
    """A second instance in the same process shares nothing: names of modules are constants."""
    if source.package not in PACKAGES:
        return
    makers = {"list", "dict", "set", "deque", "defaultdict", "OrderedDict", "Counter", "count"}
    for node in source.tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        value = node.value
        made = isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in makers
        mutable = isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp)
        target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        if (made or mutable) and not target.isupper() and target != "__all__":
            yield f"{node.lineno} {target} is state of the module"
    for inner in source.nodes:
        if isinstance(inner, ast.Global):
            yield f"{inner.lineno} global"


def sizes(source: Source) -> Iterator[str]:
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"1 has {lines} lines, at most {FILE_LINES_MAX} are allowed"
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{node.lineno} {node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def module_docstring(source: Source) -> Iterator[str]:
    if source.text.strip() and not ast.get_docstring(source.tree):
        yield "1 has no docstring"


def no_silent_catch(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
        if node.type is None or (broad and all(isinstance(line, ast.Pass) for line in node.body)):
            yield f"{node.lineno} catches everything and says nothing"


def waits_for_conditions(source: Source) -> Iterator[str]:
    if source.package != "tests" or not SUSPICIOUS.search(source.text):
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and not source.matches(MAY_SLEEP):
            call = ast.unparse(node)
            if call.startswith(("time.sleep(", "asyncio.sleep(")) and call != "asyncio.sleep(0)":
                yield f"{node.lineno} sleeps: wait for a condition (tests/helpers.py)"
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(
            ("pytest.mark.skip", "pytest.mark.xfail", "pytest.skip", "pytest.xfail")
        ):
            yield f"{node.lineno} does not run: a test passes or is removed"


RULES: list[Callable[[Source], Iterator[str]]] = [
    *(import_direction, library_places, environment_places),
    *(pure_modules_say_so, pure_modules_import_pure_ones, pure_modules_are_deterministic),
    *(no_shared_state, sizes, module_docstring, no_silent_catch, waits_for_conditions),
]


def python_files() -> list[Path]:
    return sorted(p for top in (*PACKAGES, "tests") for p in (ROOT / top).rglob("*.py"))


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    """Every source file, parsed once for all rules."""
    return [source_at(path) for path in python_files()]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_source_file_keeps_the_rule(
    rule: Callable[[Source], Iterator[str]], sources: list[Source]
) -> None:
    assert sources
    complaints = [f"{s.path}:{complaint}" for s in sources for complaint in rule(s)]
    assert not complaints, "\n".join(complaints)


BAD = [
    (import_direction, "engine/x.py", "import router.keys"),
    (import_direction, "gateway/x.py", "from marketdata import depth"),
    (import_direction, "router/x.py", "from . import keys"),
    (library_places, "gateway/x.py", "from redis.asyncio import Redis"),
    (environment_places, "ops/x.py", "import os\nport = os.environ['PORT']"),
    (pure_modules_say_so, "engine/book.py", '"""The book."""'),
    (pure_modules_import_pure_ones, "engine/x.py", '"""X. Pure."""\nimport time'),
    (pure_modules_import_pure_ones, "ops/x.py", '"""X. Pure."""\nfrom ops import data_dir'),
    (pure_modules_are_deterministic, "engine/x.py", '"""X. Pure."""\nfor x in {1, 2}: f(x)'),
    (pure_modules_are_deterministic, "engine/x.py", '"""X. Pure."""\nx = hash("text")'),
    (pure_modules_are_deterministic, "engine/x.py", '"""X. Pure."""\nx = datetime.now(UTC)'),
    (no_shared_state, "engine/x.py", "books = {}"),
    (no_shared_state, "engine/x.py", "def f():\n    global x\n    x = 1"),
    (sizes, "engine/x.py", "x = 1\n" * 401),
    (sizes, "engine/x.py", "def f():\n" + "    x = 1\n" * 60),
    (module_docstring, "engine/x.py", "x = 1"),
    (no_silent_catch, "ops/x.py", "try:\n    f()\nexcept Exception:\n    pass"),
    (waits_for_conditions, "tests/test_x.py", "time.sleep(1)"),
    (waits_for_conditions, "tests/test_x.py", "@pytest.mark.skip\ndef test_x(): f()"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_each_rule_finds_a_bad_example(
    rule: Callable[[Source], Iterator[str]], path: str, text: str
) -> None:
    assert len(list(rule(Source(path, text)))) == 1


def test_each_package_lists_its_files() -> None:
    missing = [
        f"{package}/__init__.py does not name {file.name}"
        for package in sorted(PACKAGES)
        for file in sorted((ROOT / package).glob("*.py"))
        if file.name != "__init__.py"
        and not re.search(
            rf"\b{re.escape(file.name)}", (ROOT / package / "__init__.py").read_text()
        )
    ]
    assert not missing, "\n".join(missing)


def test_each_script_begins_with_its_header() -> None:
    scripts = sorted((ROOT / "router" / "scripts").glob("*.lua"))
    assert [script.name for script in scripts if not script.read_text().startswith("--")] == []


def test_no_file_holds_leftovers_or_paths_of_a_machine() -> None:
    kinds = ("*.py", "*.lua", "*.sql", "*.toml", "*.txt", "*.md", "*.conf", "Makefile", "run")
    folders = (*sorted(PACKAGES), "tests", "docs", ".ci")
    files = [p for folder in folders for kind in kinds for p in (ROOT / folder).rglob(kind)]
    files += [p for kind in kinds for p in ROOT.glob(kind)]
    complaints = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LEFTOVER.search(line) or MACHINE_PATH.search(line)
    ]
    assert not complaints, "\n".join(complaints)
