"""The tables of a workspace, one numbered step after the other. A step that was released is never edited.

All steps missing in a file run in one transaction when it is opened. No secondary indexes and no primary
keys: every table is appended to, and duplicates are kept out by the statements that write.
"""

from __future__ import annotations

import duckdb

MIGRATIONS: tuple[str, ...] = (
    # 1: rows come in, tasks say what labels mean, runs and people label, calibrators correct
    """
    create table imports (
        id varchar, source varchar, format varchar, encoding varchar, mapping varchar,
        bytes bigint, lines bigint, added bigint, repeated bigint, rejected bigint,
        started_at timestamptz, finished_at timestamptz
    );
    create table rejects (import_id varchar, line bigint, reason varchar, content varchar);
    create table rows (
        row_no bigint, id varchar, text varchar, domain varchar, external_id varchar, import_id varchar
    );
    create table repeats (row_id varchar, import_id varchar, times bigint);
    create table gold (row_id varchar, dimension varchar, label varchar, import_id varchar);
    create table tasks (id varchar, name varchar, title varchar, document varchar, saved_at timestamptz);
    create table prompts (id varchar, task_id varchar, document varchar, saved_at timestamptz);
    create table runs (
        id varchar, task_id varchar, task_name varchar, prompt_id varchar,
        model_name varchar, model_digest varchar, spec varchar, created_at timestamptz
    );
    create table run_rows (run_id varchar, number bigint, row_id varchar);
    create table facts (
        author varchar, seq bigint, run_id varchar, row_id varchar, dimension varchar, labeler varchar,
        slot integer, kind varchar, label varchar, logprobs double[], confidence double,
        model_digest varchar, prompt_id varchar, node varchar, claim varchar, epoch bigint, seconds double,
        prompt_tokens integer, completion_tokens integer, warnings varchar[], error varchar, made_at timestamptz
    );
    create table decisions (
        session varchar, seq bigint, run_id varchar, task_name varchar, row_id varchar, dimension varchar,
        action varchar, label varchar, reviewer varchar, seconds double, comment varchar, blind boolean,
        shown varchar, undoes bigint, undoes_session varchar, decided_at timestamptz, saved_at timestamptz
    );
    create table calibrators (
        id varchar, run_id varchar, dimension varchar, method varchar, parameters varchar, evidence varchar,
        fitted_at timestamptz
    );
    create table nodes (id varchar, name varchar, seen_at timestamptz);
    create table events (kind varchar, subject varchar, data varchar, happened_at timestamptz);
    """,
    # 2: many machines; how far each one's log has been read, and where in the logs a decision stands
    """
    create table cursors (author varchar, next_seq bigint);
    insert into cursors select author, max(seq) + 1 from facts group by author;
    create table run_states (
        run_id varchar, state varchar, note varchar, clock bigint, author varchar, seq bigint
    );
    create table carried (session varchar, seq bigint, author varchar, entry bigint);
    alter table decisions add column clock bigint;
    update decisions set clock = epoch_us(decided_at);
    """,
    # 3: each way a question was put, replies nobody could read, why; and what several models say together
    """
    alter table facts add column phrasings double[][] default [];
    alter table facts add column reply varchar default '';
    alter table facts add column explanation varchar default '';
    create table links (run_id varchar, other_id varchar, kind varchar, weight double, created_at timestamptz);
    """,
    # 4: scores a calibrator computed outside SQL, blind samples that were drawn, promises that were accepted
    """
    create table adjusted (calibrator varchar, row_id varchar, source ubigint, scores double[]);
    create table out_of_fold (calibrator varchar, row_id varchar, scores double[]);
    create table draws (
        id varchar, run_id varchar, task_name varchar, dimension varchar, number bigint, row_id varchar,
        planned bigint, inclusion double, drawn_at timestamptz
    );
    create table promises (
        id varchar, run_id varchar, dimension varchar, calibrator varchar, epsilon double, delta double,
        tolerance double, threshold double, rows bigint, checked bigint, wrong bigint, bound double,
        planned bigint, sentence varchar, kept_at timestamptz
    );
    """,
    # 5: promises of one label or one domain (null: of all rows) and the rows they accepted; the rows that a draw
    # could take, where not all
    """
    alter table promises add column label varchar default '';
    alter table promises add column domain varchar;
    create table accepted (promise varchar, row_id varchar);
    create table frames (run_id varchar, dimension varchar, number bigint, row_id varchar);
    """,
)


def migrate(con: duckdb.DuckDBPyConnection) -> int:
    """Bring the file to the newest layout; returns the number of steps run. Raises ValueError if it is newer."""
    con.execute("create table if not exists migrations (step integer, applied_at timestamptz)")
    row = con.execute("select coalesce(max(step), 0) from migrations").fetchone()
    done = int(row[0]) if row else 0
    if done > len(MIGRATIONS):
        raise ValueError(f"layout {done} is newer than {len(MIGRATIONS)}")
    if done == len(MIGRATIONS):
        return 0
    con.execute("begin")
    for step, sql in enumerate(MIGRATIONS[done:], start=done + 1):
        con.execute(sql)
        con.execute("insert into migrations values (?, now())", [step])
    con.execute("commit")
    con.execute("checkpoint")
    return len(MIGRATIONS) - done
