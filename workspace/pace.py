"""How long rows took a model so far, and how long texts are: what an estimate before a run goes by."""

from __future__ import annotations

import msgspec

from workspace.store import Store

CLAIMS = 60  # the newest, of a run's rows handed out together, that are looked at
FACTS = 20_000  # that are read for it at most
SAMPLE = 2000  # rows whose lengths stand for all


class Claim(msgspec.Struct, frozen=True):
    """Rows that were answered together: `answers` to all dimensions, `seconds` of work and tokens of all of them.

    Tokens are counted for each answer as if it had been asked alone.
    """

    rows: int
    answers: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int


class Lengths(msgspec.Struct, frozen=True):
    """Characters of `sample` rows: mean and standard deviation; `rows` in the workspace."""

    sample: int
    mean: float
    deviation: float
    rows: int


def claims(store: Store, model_digest: str, task_name: str | None = None, node: str = "") -> list[Claim]:
    """The newest claims a model answered, the latest first; of one task or machine, if these are given.

    Answers from a cache or by a rule took no seconds and are left out. A server that answers several
    requests at once is faster than the sum of its answers: where a claim followed another one of the same run
    and machine sooner than its answers add up to, that time counts.
    """
    with store.read() as con:
        found = con.execute(
            """with newest as (
                   select run_id, node, claim, row_id, seconds, prompt_tokens, completion_tokens, made_at
                   from facts
                   where model_digest = $model and kind = 'label' and seconds > 0
                     and ($task is null or run_id in (select id from runs where task_name = $task))
                     and ($node = '' or node = $node)
                   order by made_at desc limit $facts
               ), together as (
                   select run_id, node, claim, count(distinct row_id) as rows, count(*) as answers,
                          sum(seconds) as seconds, sum(prompt_tokens)::bigint as prompt,
                          sum(completion_tokens)::bigint as reply, max(epoch(made_at)) as ended
                   from newest group by all
               ), timed as (
                   select *, ended - lag(ended) over (partition by run_id, node order by ended) as gap
                   from together
               )
               select rows, answers, case when gap > 0 then least(gap, seconds) else seconds end, prompt, reply
               from timed order by ended desc, claim limit $claims""",
            {"model": model_digest, "task": task_name, "node": node, "facts": FACTS, "claims": CLAIMS},
        ).fetchall()
    return [Claim(*row) for row in found]


def lengths(store: Store) -> Lengths:
    """How long the texts of this workspace are, by rows spread over all of them; the same each time."""
    with store.read() as con:
        total, sample, mean, deviation = con.execute(
            """with every as (select count(*) as total, greatest(1, count(*) // $sample) as step from rows),
                    chosen as (select length(text) as size from rows, every where row_no % step = 0)
               select any_value(total), (select count(*) from chosen), (select avg(size) from chosen),
                      (select stddev_pop(size) from chosen)
               from every""",
            {"sample": SAMPLE},
        ).fetchall()[0]
    return Lengths(sample, float(mean or 0.0), float(deviation or 0.0), total)
