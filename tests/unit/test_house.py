"""What holds the house together, counted: no reader has to take it on trust.

Each rule has a list of what is answered, with the reason, or is still owed. A list only shrinks: what is no
more fails too.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("crosslight", "node", "registry", "simulations")
MAX_LINES, MAX_PARAMETERS = 400, 8

#: Still over their bound; each is owed.
LONG_FILES: set[str] = set()
LONG_CONSTRUCTORS: set[str] = set()
CIRCLES: set[tuple[str, str]] = set()
#: Names of classes that stand for two things in what one service is made of.
HOMONYMS = {
    ("node", "Association"),  # XDS's and DICOM's own word, each in its room
}

#: Where what a test needs of a registry is real: its room is made by ``registry/parts.py``
#: (``tests/registry_room.py``,
#: ``member_room.py``). Each with its file; a store is the classes that it is made of.
REAL = {
    "Ask": ("registry/ask/ask.py",),
    "IndexStore": ("registry/index/store.py",),
    "IdentityStore": (
        "registry/identity/store.py",
        "registry/identity/tables.py",
        "registry/identity/queries.py",
    ),
    "AuditLog": ("crosslight/runtime/audit/log.py",),
}
#: Classes of tests that stand in for one of them.
DOUBLES = {
    # the real log, on a disk that is slow or full when the test says so
    ("tests/protocol/test_node_audit_first.py", "_HeldAudit"),
}

#: Files whose ``type: ignore`` do not all say why.
UNEXPLAINED: set[str] = set()


def _production() -> list[Path]:
    found = (path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return sorted(path for path in found if "_pb2" not in path.name)


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def _modules() -> dict[str, Path]:
    return {
        _named(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path
        for path in _production()
    }


def test_only_the_two_engines_know_which_they_are() -> None:
    """Stores ask ``tx.dialect`` for what they mean; ``name`` chooses the deltas and nothing else."""
    asks = re.compile(r"\.engine\b|dialect\.name|[\"']postgres[\"']")
    found = {_named(path) for path in _production() if asks.search(path.read_text("utf-8"))}
    assert found == {
        "crosslight/runtime/db/pg_statements.py",
        "crosslight/runtime/db/postgres.py",
        "crosslight/runtime/db/schema.py",
        "crosslight/runtime/db/seam.py",
    }


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    files = [*_production(), *(ROOT / "tests").rglob("*.py")]
    long = {_named(path) for path in files if len(path.read_text("utf-8").splitlines()) > MAX_LINES}
    assert long == LONG_FILES


def test_no_constructor_is_a_manifest() -> None:
    long = set()
    for path in _production():
        for made in (n for n in ast.walk(_parsed(path)) if isinstance(n, ast.ClassDef)):
            inits = (f for f in made.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
            if any(len(f.args.args) - 1 + len(f.args.kwonlyargs) > MAX_PARAMETERS for f in inits):
                long.add(f"{_named(path)}:{made.name}")
    assert long == LONG_CONSTRUCTORS


def _imports(name: str) -> set[str]:
    """What a file names, at run time or for its types alone."""
    modules, found = _modules(), set[str]()
    for node in ast.walk(_parsed(modules[name])):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules.keys() - {name}


def _circles(graph: dict[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """Files that reach each other.

    A file is left out once nothing that it names is left, or nothing names it.
    """
    while True:
        named = {other for others in graph.values() for other in others}
        idle = {name for name, others in graph.items() if not others or name not in named}
        if not idle:
            break
        graph = {name: others - idle for name, others in graph.items() if name not in idle}
    while graph:
        reached, todo = set[str](), [next(iter(graph))]
        while todo:
            if (name := todo.pop()) not in reached:
                reached.add(name)
                todo += [*graph[name], *(other for other, others in graph.items() if name in others)]
        yield tuple(sorted(reached))
        graph = {name: others for name, others in graph.items() if name not in reached}


def test_no_files_import_each_other_not_even_for_their_types() -> None:
    assert set(_circles({name: _imports(name) for name in _modules()})) == CIRCLES


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": set[str]()}
    assert list(_circles(graph)) == [("b", "c")]


@pytest.mark.parametrize("service", ["node", "registry", "simulations"])
def test_a_class_has_a_name_of_its_own(service: str) -> None:
    """Within what a service is made of: its rooms and the shared ones.

    Names that begin with _ are their file's own.
    """
    homes = defaultdict(set)
    for path in _production():
        if path.relative_to(ROOT).parts[0] in ("crosslight", service):
            for made in (n for n in _parsed(path).body if isinstance(n, ast.ClassDef) and n.name[0] != "_"):
                homes[made.name].add(_named(path))
    twice = {(service, name) for name, paths in homes.items() if len(paths) > 1}
    assert twice == {known for known in HOMONYMS if known[0] == service}


def test_what_the_type_checker_is_told_to_pass_over_says_why() -> None:
    bare = re.compile(r"# type: ignore\[[a-z, -]+\](?! +# \S)")
    assert {_named(path) for path in _production() if bare.search(path.read_text("utf-8"))} == UNEXPLAINED


#: Where files are made, renamed and removed by ``Seams.files`` alone: a disk can fail when a run says so.
SEALED_ROOMS = ("node/archive", "node/serve", "node/membership", "registry/members")
#: What changes files by another way. ``replace`` is left out: it is a word of texts and values too.
CHANGES_FILES = re.compile(
    r"\.(unlink|rename|hardlink_to|symlink_to|rmdir|mkdir|write_bytes|write_text)\("
    r"|\bshutil\.|\bos\.(open\((?!.*O_RDONLY)|rename|replace|remove|unlink|link|mkdir|makedirs|rmdir)"
    r"|\bopen\(.*[\"'](?=[wxar+b]*[wxa+])[wxar+b]+[\"']"
)
#: Each with its reason.
BESIDE_FILES = {
    "registry/members/certificates.py",  # owed
}


def test_what_changes_files_does_so_through_the_seam() -> None:
    beside = {
        _named(path)
        for path in _production()
        if _named(path).startswith(SEALED_ROOMS) and CHANGES_FILES.search(path.read_text("utf-8"))
    }
    assert beside == BESIDE_FILES


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("path.unlink(missing_ok=True)", True),
        ('open(part, "wb", opener=private)', True),
        ('self.path.open("r+b", buffering=0)', True),
        ("fd = os.open(path, os.O_WRONLY)", True),
        ("fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)", False),
        ('path.open("rb")', False),
        ("files.remove(path)", False),
        ("await serve.open()", False),
    ],
)
def test_a_change_of_files_is_found(line: str, changes: bool) -> None:
    assert bool(CHANGES_FILES.search(line)) is changes


#: Rooms whose locals say what they hold.
PLAIN_ROOMS = (
    "crosslight/client",
    "crosslight/standards/dicom",
    "crosslight/standards/fhir",
    "crosslight/standards/hl7",
    "crosslight/standards/xds",
    "node/archive",
    "node/publish",
    "node/serve",
    "registry/ask",
    "registry/dicomweb",
    "registry/enrich",
    "registry/fhir",
    "registry/gateway",
    "registry/identity",
    "registry/ihe",
    "registry/index",
    "registry/officer",
    "registry/portal",
    "simulations/virtual",
)
#: Names of variables and parameters that say nothing of what they are.
VAGUE = {"found", "got", "held", "one", "ones", "thing", "things"}


def _vague(tree: ast.AST) -> Iterator[str]:
    """Line and name of each, within functions: a field is read beside the name of what has it."""
    functions = (f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef))
    for node in (node for function in functions for node in ast.walk(function)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE:
            yield f"{node.lineno} {node.id}"
        elif isinstance(node, ast.arg) and node.arg in VAGUE:
            yield f"{node.lineno} {node.arg}"


def test_locals_say_what_they_hold() -> None:
    named = (path for path in _production() if _named(path).startswith(PLAIN_ROOMS))
    assert {f"{_named(path)}:{place}" for path in named for place in _vague(_parsed(path))} == set()


def test_a_vague_name_is_found() -> None:
    text = "def f(one: int) -> int:\n found = [thing for thing in g(held=one)]\n return found"
    assert sorted(_vague(ast.parse(text))) == ["1 one", "2 found", "2 thing"]


def test_a_docstring_says_in_its_first_line_what_it_is_about() -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    wrapped = set()
    for path in _production():
        for node in (n for n in ast.walk(_parsed(path)) if isinstance(n, kinds)):
            summary = (ast.get_docstring(node) or "").partition("\n\n")[0]
            if "\n" in summary:
                wrapped.add(f"{_named(path)}: {summary}")
    assert wrapped == set()


def _methods(made: ast.ClassDef) -> set[str]:
    functions = (f for f in made.body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef))
    # which rooms have too
    return {f.name for f in functions if f.name[0] != "_"} - {"open", "close", "feed", "merge"}


def _stands_in(made: ast.ClassDef) -> bool:
    """Whether it derives from one of :data:`REAL`, or answers two of its methods or more."""
    if any(ast.unparse(base).rpartition(".")[2] in REAL for base in made.bases):
        return True
    real = (_parsed(ROOT / file) for files in REAL.values() for file in files)
    classes = [n for module in real for n in module.body if isinstance(n, ast.ClassDef)]
    return any(len(_methods(made) & _methods(one)) > 1 for one in classes)


def test_no_test_stands_in_for_ask_or_a_store() -> None:
    """Looked for: classes in ``tests/`` by their bases and methods, and casts to one of the names."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        classes = (n for n in ast.walk(_parsed(path)) if isinstance(n, ast.ClassDef))
        found |= {(_named(path), made.name) for made in classes if _stands_in(made)}
        if re.search(rf"cast\([\"']?({'|'.join(REAL)})\b", path.read_text("utf-8")):
            found.add((_named(path), "cast"))
    assert found == DOUBLES


@pytest.mark.parametrize(
    ("text", "double"),
    [
        ("class FakeAsk(Ask): ...", True),
        ("class Mine(log.AuditLog): ...", True),
        ("class Asked(Asking): ...", False),
        ("class A:\n async def question(self): ...\n def coverage(self): ...", True),
        ("class B:\n def cursor(self): ...\n async def census(self): ...", True),
        ("class C:\n def search(self): ...\n def open(self): ...", False),
    ],
)
def test_a_double_is_found(text: str, double: bool) -> None:
    (made,) = (n for n in ast.parse(text).body if isinstance(n, ast.ClassDef))
    assert _stands_in(made) is double
