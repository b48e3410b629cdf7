"""Makes tweets.parquet: `python workspace/bundled/make_sample.py --data DIR`, DIR holding hutto_tweets.parquet.

Of the tweets with exactly 20 ratings and a majority label, 500 are taken: as many of each label as its share
among them demands (largest remainders), within a label those whose SHA-256 of id and text is smallest, in the
order of the source. So the same source always gives the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb

ROWS = 500
RATINGS = 20

SAMPLE = f"""
with usable as (
    select *, row_number() over (partition by majority order by sha256(id || ' ' || text)) as place,
        {ROWS} * count(*) over (partition by majority) / count(*) over () as share
    from read_parquet($source) where len(ratings) = {RATINGS}
    qualify row_number() over (partition by text order by id::integer) = 1
), kinds as (
    select majority, floor(any_value(share)) as whole,
        row_number() over (order by any_value(share) - floor(any_value(share)) desc, majority) as turn
    from usable group by majority
), quota as (
    select majority, whole + (turn <= {ROWS} - (select sum(whole) from kinds))::integer as wanted from kinds
)
select usable.id, text, majority as sentiment, mean_rating, ratings
from usable join quota using (majority) where place <= wanted order by usable.id::integer
"""


def make(source: Path, target: Path) -> int:
    """Write the sample taken from `source` to `target`; returns its rows."""
    con = duckdb.connect(":memory:", config={"threads": 1})
    try:
        sample = con.sql(SAMPLE, params={"source": str(source)}).to_arrow_table()
        con.register("sample", sample)
        con.execute("copy sample to $target (format parquet, compression zstd)", {"target": str(target)})
        return int(sample.num_rows)
    finally:
        con.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the bundled sample of tweets.")
    parser.add_argument("--data", type=Path, required=True, help="folder with hutto_tweets.parquet")
    folder: Path = parser.parse_args().data
    make(folder / "hutto_tweets.parquet", Path(__file__).with_name("tweets.parquet"))
