"""A damaged workspace: the studio says what happened and opens it again without losing the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from studio import runtime
from tests.seeding import seeded_file

APP = Path(__file__).resolve().parents[2] / "studio" / "app.py"


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace whose log has bytes overwritten in its middle."""
    path = tmp_path / "w.duckdb"
    seeded_file(path, ["one", "two"])
    con = duckdb.connect(str(path))
    con.execute("pragma disable_checkpoint_on_shutdown")
    con.execute("set checkpoint_threshold = '1GB'")
    for number in range(300):
        con.execute("insert into events values ('test', ?, ?, now())", [str(number), "x" * 400])
    con.close()
    log = Path(f"{path}.wal")
    content = bytearray(log.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = b"\xff" * 64
    log.write_bytes(content)
    monkeypatch.setenv(runtime.VARIABLE, str(path))
    runtime.use(None)
    yield path
    runtime.close()
    runtime.use(None)


def test_a_damaged_workspace_is_repaired_from_its_page(damaged: Path) -> None:
    at = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not at.exception
    assert [title.value for title in at.title] == ["This workspace needs a repair"]
    assert [button.label for button in at.button] == ["Keep a copy and repair"]
    before = damaged.read_bytes()
    at.button(key="repair").click().run()
    assert not at.exception
    copies = [path for path in damaged.parent.rglob("*") if path.is_file() and path.read_bytes() == before]
    assert [path for path in copies if path != damaged], "a copy of the file is kept"
    assert "A copy is kept in" in at.success[0].value
    at.button(key="open").click().run()
    assert not at.exception
    assert [title.value for title in at.title] != ["This workspace needs a repair"]
