"""Loading a million rows into a workspace against DuckDB's own `create table as` of the same file.

Both write a new file database with the same storage version, memory limit and threads, and both are timed until
the checkpoint is on disk and the file closed. Winnow does more meanwhile: it gives each text an id from its
content, counts repeats and refused records with their lines, and finds out whether the file was loaded before.
The two take turns in one process, A B A B; the ratio is of the medians, and below 2 is the aim. With `--quick` it
is a fifth of the rows, where what a new workspace costs anyhow weighs more.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from workspace import intake
from workspace.store import connect, open_store

ROWS_QUICK, ROWS = 200_000, 1_000_000


def run(quick: bool) -> dict[str, object]:
    """csv_ratio, parquet_ratio and the worse of them as `ratio`, with the median seconds behind them."""
    count, rounds = (ROWS_QUICK, 3) if quick else (ROWS, 7)
    result: dict[str, object] = {"rows": count, "rounds": rounds}
    ratios: list[float] = []
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as name:
        folder = Path(name)
        print(f"Making {count:,} rows of 100 to 240 characters ...", flush=True)
        make_files(folder, count)
        for kind in ("csv", "parquet"):
            path = folder / f"rows.{kind}"
            ways: dict[str, Callable[[Path, Path], int]] = {"duckdb": by_duckdb, "winnow": by_winnow}
            for way in ways.values():  # both have read the file once before anything counts
                timed(way, path, folder, count)
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(rounds):
                for who, way in ways.items():
                    seconds[who].append(timed(way, path, folder, count))
                print(f"{kind} round {turn + 1}: " + ", ".join(f"{w} {s[-1]:.2f} s" for w, s in seconds.items()))
            medians = {who: statistics.median(each) for who, each in seconds.items()}
            ratios.append(medians["winnow"] / medians["duckdb"])
            result[f"{kind}_ratio"] = round(ratios[-1], 3)
            result |= {f"{kind}_{who}_s": round(median, 3) for who, median in medians.items()}
    result["ratio"] = round(max(ratios), 3)
    return result


def timed(way: Callable[[Path, Path], int], path: Path, folder: Path, count: int) -> float:
    """Seconds one way takes with a new database, which is removed afterwards."""
    target = folder / "target" / "w.duckdb"
    target.parent.mkdir()
    started = time.perf_counter()
    added = way(path, target)
    seconds = time.perf_counter() - started
    if added != count:
        raise AssertionError(f"only {added} of {count} rows were added")
    shutil.rmtree(target.parent)
    return seconds


def by_duckdb(path: Path, target: Path) -> int:
    """`create table as select *` with DuckDB's own guesses."""
    con = connect(target)
    added = con.execute(f"create table rows as select * from read_{path.suffix[1:]}('{path}')").fetchall()[0][0]
    con.execute("checkpoint")
    con.close()
    return int(added)


def by_winnow(path: Path, target: Path) -> int:
    """The whole way of a file into a new workspace."""
    store = open_store(target)
    result = intake.load(store, path, intake.Mapping(("text",), id="id"))
    with store.read() as con:
        con.execute("checkpoint")
    store.close()
    return result.added


def make_files(folder: Path, count: int) -> None:
    """The same rows as CSV and Parquet: an integer id and a text of words, 100 to 240 characters, no two alike."""
    chance = random.Random(7)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 10))) for _ in range(20_000)]
    # Sentences of sixteen words, joined in twos: far quicker than drawing each word, and compresses as text does.
    sentences = [" ".join(chance.choices(words, k=16)) for _ in range(50_000)]
    con = duckdb.connect()
    con.execute(
        "create table sentences as select unnest($1) as words, unnest(range(len($1))) as place", [sentences]
    )
    con.execute(
        f"""create table rows as
            select i as id, left(i || ' ' || a.words || ' ' || b.words, 100 + (hash(i) % 141)::int) as text
            from range({count}) r(i)
            join sentences a on a.place = hash(i * 2) % {len(sentences)}
            join sentences b on b.place = hash(i * 2 + 1) % {len(sentences)}"""
    )
    for kind in ("csv", "parquet"):
        con.execute(f"copy (from rows order by id) to '{folder / f'rows.{kind}'}' (format {kind})")
    con.close()
