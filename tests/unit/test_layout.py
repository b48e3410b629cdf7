"""The shape of the repository: small files, pages without SQL, a reason for every dependency."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("studio", "pages", "engine", "calibration", "workspace", "benchmarks")
FILE_LINES, PAGE_LINES = 400, 120

MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted((ROOT / "pages").glob("*.py"))

SQL = re.compile(
    r"""\bselect\b.*\bfrom\b | \bfrom\s+\w+\s+select\b | \binsert\s+into\b | \bdelete\s+from\b
      | \bupdate\s+\w+\s+set\b | \b(create|drop|alter)\s+(or\s+replace\s+)?(table|view|index)\b
      | \bwith\s+\w+\s+as\s*\( | \bcount\(\*\)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)

# Paths of one machine and addresses packages were fetched from say nothing to the person who reads this. They
# are put together here so that this file does not contain them itself.
FORBIDDEN = tuple(
    "".join(parts)
    for parts in (
        ("/wo", "rk/"),
        ("/tmp/", "winnow/"),
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("npmjs", ".org"),
        ("npmjs", ".com"),
    )
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def strings(source: str) -> list[str]:
    """Every string of a module; an f-string as one, with "?" for what is filled in."""
    found: list[str] = []
    inner: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inner.update(id(part) for part in node.values)
            found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "?" for p in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            found.append(node.value)
    return found


def tracked_text() -> list[Path]:
    """The text files git knows; those with a NUL byte are not text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    paths = [ROOT / entry for entry in listed.stdout.split("\0") if entry]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 20
    assert {"home", "data", "calibration"} <= {path.stem for path in PAGES}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_files_stay_small(path: Path) -> None:
    limit = PAGE_LINES if path in PAGES else FILE_LINES
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < limit, f"{name(path)} has {lines} lines: find the second idea in it and give it a file"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_pages_ask_in_words_not_in_sql(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert [text for text in strings(source) if SQL.search(text)] == []
    calls = [
        node.func.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert {"execute", "executemany", "sql"}.isdisjoint(calls)


@pytest.mark.parametrize(
    "text",
    [
        "select id from rows",
        "SELECT *\nFROM rows",
        "from rows select id",
        "insert into rows values (1)",
        "delete from rows",
        "update rows set text = ''",
        "create or replace view x",
        "with part as (select 1)",
    ],
)
def test_sql_is_recognised(text: str) -> None:
    assert SQL.search(text)


@pytest.mark.parametrize(
    "text", ["Select a row", "Choose where it comes from", "Update the task", "Delete", "select"]
)
def test_words_are_not_taken_for_sql(text: str) -> None:
    assert not SQL.search(text)


@pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="not a git checkout, so nothing says which files are ours"
)
def test_no_text_speaks_of_one_machine_or_of_a_registry() -> None:
    found = []
    for path in tracked_text():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            found += [f"{name(path)}:{number}: {word}" for word in FORBIDDEN if word in line.lower()]
    assert found == []


def test_every_dependency_has_its_reason() -> None:
    document = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(document)["project"]
    wanted = [
        *project["dependencies"],
        *(one for group in project["optional-dependencies"].values() for one in group),
    ]
    reasons = dict(re.findall(r'^\s*"([^"]+)",?\s*#\s*(\S.{9,})$', document, re.MULTILINE))
    assert [dependency for dependency in wanted if dependency not in reasons] == []
