"""Files as people bring them: nothing silently wrong, every refused line with its number."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from workspace import intake
from workspace.columns import Mapping
from workspace.errors import IntakeError
from workspace.store import Store

TEXT = Mapping(("text",))
Refused = list[tuple[int, str]]


def bring(
    store: Store, path: Path, content: bytes, mapping: Mapping = TEXT, encoding: str | None = None
) -> tuple[list[str], Refused]:
    """Load the bytes as a file; the texts added and the refused lines. Checks the counts on the way."""
    path.write_bytes(content)
    result = intake.load(store, path, mapping, encoding=encoding)
    assert result.added + result.repeated + result.rejected == result.lines
    intake.preview(path, encoding=encoding)
    with store.read() as con:
        found = con.execute(
            "select text from rows where import_id = ? order by row_no", [result.import_id]
        ).fetchall()
    refused = intake.rejects(store, result.import_id)
    assert len(refused) == result.rejected
    assert len(found) == result.added
    return [text for (text,) in found], [(each.line, each.reason) for each in refused]


def test_ragged_rows_are_refused_with_their_lines(store: Store, tmp_path: Path) -> None:
    content = b"id,text,label\n1,good,a\n2,short\n3,also good,b\n4,too,many,cells\n"
    texts, refused = bring(store, tmp_path / "f.csv", content)
    assert texts == ["good", "also good"]
    assert refused == [(3, "has 2 of 3 columns"), (5, "has 4 of 3 columns")]


@pytest.mark.parametrize("codec", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.txt", "f.json"])
def test_encodings_are_found(store: Store, tmp_path: Path, codec: str, name: str) -> None:
    want = ["Grüße aus Köln", "déjà vu", "plain"]
    if name == "f.csv":
        content = "id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(want))
    elif name == "f.txt":
        content = "\n".join(want)
    else:
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in want]
        content = "\n".join(lines) if name == "f.jsonl" else "[" + ",\n".join(lines) + "]"
    texts, refused = bring(store, tmp_path / name, content.encode(codec))
    assert (texts, refused) == (want, [])


def test_latin_1_far_behind_the_first_megabyte(store: Store, tmp_path: Path) -> None:
    many = b"".join(b"%d,some words to fill the file with number %d\n" % (i, i) for i in range(40_000))
    texts, refused = bring(store, tmp_path / "f.csv", b"id,text\n" + many + "x,Köln\n".encode("cp1252"))
    assert (len(texts), texts[-1], refused) == (40_001, "Köln", [])


def test_a_damaged_line_in_utf_8_costs_only_itself(store: Store, tmp_path: Path) -> None:
    sound = "".join(f"{i},Grüße äöü {i}\n" for i in range(10)).encode()
    texts, refused = bring(store, tmp_path / "f.csv", b"id,text\n" + sound + b"x,\xff\xfe broken\n" + b"y,fine\n")
    assert texts == [f"Grüße äöü {i}" for i in range(10)] + ["fine"]
    assert refused == [(12, "holds bytes that are wrong in this encoding")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_line_end_alone(store: Store, tmp_path: Path, end: bytes) -> None:
    for name, header in (("f.csv", [b"text,n"]), ("f.txt", [])):
        lines = [b"a%s,1" % name.encode(), b"b%s,2" % name.encode()]
        texts, refused = bring(store, tmp_path / name, end.join([*header, *lines]) + end)
        cut = 1 if name == "f.csv" else 2
        assert texts == [b",".join(line.split(b",")[:cut]).decode() for line in lines]
        assert refused == []


def test_mixed_line_ends(store: Store, tmp_path: Path) -> None:
    texts, refused = bring(store, tmp_path / "f.csv", b'n,text\r\n1,a\n2,b\r3,"c\r\nd"\r\n4,"e\rf"\n5,\n')
    assert texts == ["a", "b", "c\r\nd", "e\rf"]
    assert refused == [(8, "empty text")]
    texts, refused = bring(
        store, tmp_path / "f.jsonl", b'{"text":"g"}\r\n{"text":"h"}\n{"text":"i"}\r{"text":"j"}'
    )
    assert (texts, refused) == (["g", "h", "i", "j"], [])


def test_nul_bytes_stay_in_the_text(store: Store, tmp_path: Path) -> None:
    texts, refused = bring(store, tmp_path / "f.csv", b"n,text\n1,a\0b\n2,c and more words so that it is text\n")
    assert (texts[0], refused) == ("a\0b", [])
    texts, refused = bring(store, tmp_path / "f.jsonl", rb'{"text": "d\u0000e"}')
    assert (texts, refused) == (["d\0e"], [])


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.txt"])
def test_a_line_of_three_million_characters(store: Store, tmp_path: Path, name: str) -> None:
    long = "long words " * 300_000
    content = {
        "f.csv": f"n,text\n1,{long}\n2,b\n",
        "f.jsonl": json.dumps({"text": long}) + '\n{"text":"b"}',
        "f.txt": f"{long}\nb",
    }
    texts, refused = bring(store, tmp_path / name, content[name].encode())
    assert (texts == [long, "b"], refused) == (True, [])


def test_broken_json_lines_are_refused_not_null(store: Store, tmp_path: Path) -> None:
    content = b'{"text": "a"}\n{"text": "b"\n\n[1]\n"just words"\n{"text": null}\n{"other": "c"}\nnonsense\n'
    content += b'{"text": "d"}'
    texts, refused = bring(store, tmp_path / "f.jsonl", content)
    assert texts == ["a", "just words", "d"]
    assert [line for line, _ in refused] == [2, 3, 4, 6, 7, 8]
    reasons = [reason for _, reason in refused]
    assert reasons[0].startswith("broken JSON at character 13")
    assert reasons[1:5] == ["blank line", "not an object", "empty text", "empty text"]


def test_types_that_change_late(store: Store, tmp_path: Path) -> None:
    lines = [f"{i},{i}" for i in range(30_000)] + ["words,words"]
    texts, refused = bring(store, tmp_path / "f.csv", ("n,text\n" + "\n".join(lines)).encode())
    assert (len(texts), texts[-1], texts[7], refused) == (30_001, "words", "7", [])
    values: list[object] = [*range(30_000, 60_000), "late", 1.50, True, {"a": [1, None]}]
    content = "\n".join(json.dumps({"text": value}) for value in values)
    texts, refused = bring(store, tmp_path / "f.jsonl", content.encode())
    assert (len(texts), texts[-4:], refused) == (30_004, ["late", "1.5", "true", '{"a":[1,null]}'], [])


def test_numbers_keep_their_digits(store: Store, tmp_path: Path) -> None:
    texts, _ = bring(store, tmp_path / "f.csv", b"text,n\n007,1\n1.50,2\n1e5,3\n")
    assert texts == ["007", "1.50", "1e5"]
    content = b'{"text": 2.50}\n{"text": 12345678901234567890123}\n{"text": [1.10]}\n{"text": NaN}'
    texts, _ = bring(store, tmp_path / "f.jsonl", content)
    assert texts == ["2.50", "12345678901234567890123", "[1.10]", "NaN"]


def test_duplicate_and_missing_column_names(store: Store, tmp_path: Path) -> None:
    content = b"text,text,,text_1\na,b,c,d\n"
    path = tmp_path / "f.csv"
    texts, _ = bring(store, path, content, Mapping(("text_1",)))
    assert texts == ["b"]
    assert intake.preview(path).columns == ["text", "text_1", "column3", "text_1_1"]


def test_quotes_newlines_and_where_records_start(store: Store, tmp_path: Path) -> None:
    content = b'n,text\n1,"two\nlines"\n\n2,"say ""hi"""\n3,\n4,"  "\n5,5" disk\n6,"open\n7,fine\n8,"x"y\n9,last'
    texts, refused = bring(store, tmp_path / "f.csv", content)
    assert texts == ["two\nlines", 'say "hi"', '5" disk', "fine", "last"]
    broken = "a quoted field is followed by more characters before the next column"
    assert refused == [(6, "empty text"), (7, "empty text"), (9, broken), (11, broken)]


def test_a_quote_never_closed_costs_one_line(store: Store, tmp_path: Path) -> None:
    texts, refused = bring(store, tmp_path / "f.csv", b'n,text\n1,a\n2,"open\n3,b\n4,c\n')
    assert (texts, refused) == (["a", "b", "c"], [(3, "a quote is opened and never closed")])


@pytest.mark.parametrize("mark", [",", "\t", ";", "|"])
def test_delimiters_are_found(store: Store, tmp_path: Path, mark: str) -> None:
    rows = [["id", "text"], ["1", f"with {mark} inside"], ["2", "plain"]]
    content = "\n".join(mark.join(f'"{cell}"' for cell in row) for row in rows)
    texts, refused = bring(store, tmp_path / "f.csv", content.encode())
    assert (texts, refused) == ([f"with {mark} inside", "plain"], [])


def test_one_column_may_hold_commas(store: Store, tmp_path: Path) -> None:
    texts, refused = bring(store, tmp_path / "f.csv", b'text\nplain\nhello, world\n"quoted, too"\n')
    assert (texts, refused) == (["plain", "hello, world", "quoted, too"], [])


def test_header_only_and_no_header(store: Store, tmp_path: Path) -> None:
    assert bring(store, tmp_path / "f.csv", b"id,text\n") == ([], [])
    assert "There are no rows in it." in intake.preview(tmp_path / "f.csv").notes
    texts, _ = bring(store, tmp_path / "g.csv", b"1,hello\n2,world\n", Mapping(("column2",)))
    assert texts == ["hello", "world"]
    assert "looks like data" in intake.preview(tmp_path / "g.csv").notes[0]


def test_surrogates_and_deep_nesting(store: Store, tmp_path: Path) -> None:
    deep = '{"text":' + "[" * 100_000 + "]" * 100_000 + "}"
    content = '{"text": "\\ud83d\\ude42"}\n{"text": "half \\ud83d"}\n' + deep
    texts, refused = bring(store, tmp_path / "f.jsonl", content.encode())
    assert texts == ["🙂"]
    assert refused == [(2, "holds half a surrogate pair"), (3, "nested too deeply")]


def test_json_documents(store: Store, tmp_path: Path) -> None:
    content = b'{"meta": [1],\n "rows": [\n  {"text": "a"},\n  {"text": ""},\n  5,\n  "b"]}'
    texts, refused = bring(store, tmp_path / "f.json", content)
    assert (texts, refused) == (["a", "b"], [(4, "empty text"), (5, "not an object")])
    assert bring(store, tmp_path / "lines.json", b'{"text": "c"}\n{"text": "d"}\n')[0] == ["c", "d"]
    for broken in (
        b'[{"text": "a"},\n{"text": }]',
        b'[{"text": "a"}',
        b'[{"text": "a"} {"text": "b"}]',
        b'{"a": [1}',
    ):
        with pytest.raises(IntakeError, match="broken JSON at line"):
            bring(store, tmp_path / "f.json", broken)
    with pytest.raises(IntakeError, match="no list"):
        bring(store, tmp_path / "f.json", b'{"text": "a"}')


def test_files_that_are_none(store: Store, tmp_path: Path) -> None:
    cases: list[tuple[str, bytes | None, str]] = [
        ("missing.csv", None, "no file at"),
        ("empty.csv", b"", "is empty"),
        ("garbage.csv", bytes(range(256)) * 40, "is not a text file"),
        ("book.xlsx", b"PK\x03\x04rest", "Excel workbook"),
        ("broken.parquet", b"PAR1 nothing PAR1", "cannot be read as Parquet"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03cut", "damaged or cut short"),
    ]
    for name, content, said in cases:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        for attempt in (lambda p: intake.load(store, p, TEXT), intake.preview):
            with pytest.raises(IntakeError, match=said):
                attempt(tmp_path / name)
    with pytest.raises(IntakeError, match="is a folder"):
        intake.preview(tmp_path)
    with pytest.raises(IntakeError, match="no text encoding"):
        bring(store, tmp_path / "f.txt", b"a", encoding="klingon")
    with pytest.raises(IntakeError, match="throughout"):
        bring(store, tmp_path / "f.txt", b"odd", encoding="utf-16-le")
    assert intake.imports(store) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"text\na\n")
    path.chmod(0)
    with pytest.raises(IntakeError, match="cannot be read"):
        intake.preview(path)


def test_tabs_without_quoting(store: Store, tmp_path: Path) -> None:
    lines = ["id\ttext", *(f'{i}\t"open {i}' for i in range(10))]
    texts, refused = bring(store, tmp_path / "f.tsv", "\n".join(lines).encode())
    assert (texts, refused) == ([f'"open {i}' for i in range(10)], [])
