"""The merged table: one line for each question about a row, as Parquet, CSV or JSONL.

Columns: id, idx, text, domain, run_id, task, dimension; then what counts: `label`, `label_id`, `confidence`, and
`decided_by`, which is "model" or the reviewer's name; said by `worker` at `ts` in fact (`author`, `seq`). A label
that a person rejected is empty. The columns from model_label on tell of the models: the answer that counts among
theirs, how many `labels` they gave and how many of those agree with it. In logprobs
null is minus infinity. `dropped`: a rule left the row out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from engine.shards.union import Counted
from workspace.errors import IntakeError

Format = Literal["parquet", "csv", "jsonl"]
BATCH = 4_000  # lines in memory
BATCH_CHARACTERS = 32 << 20  # of their texts

_ENDINGS: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_TYPES: dict[str, pa.DataType] = {
    "id": pa.string(),
    "idx": pa.int64(),
    "text": pa.string(),
    "domain": pa.string(),
    "run_id": pa.string(),
    "task": pa.string(),
    "dimension": pa.string(),
    "dimension_kind": pa.string(),
    "label": pa.string(),
    "label_id": pa.int64(),
    "confidence": pa.float64(),
    "decided_by": pa.string(),
    "worker": pa.string(),
    "ts": pa.float64(),
    "author": pa.string(),
    "seq": pa.int64(),
    "model_label": pa.string(),
    "model_confidence": pa.float64(),
    "logprobs": pa.list_(pa.float64()),
    "label_names": pa.list_(pa.string()),
    "labels": pa.int64(),
    "agreeing": pa.int64(),
    "model": pa.string(),
    "model_digest": pa.string(),
    "prompt_id": pa.string(),
    "claim": pa.string(),
    "epoch": pa.int64(),
    "seconds": pa.float64(),
    "prompt_tokens": pa.int64(),
    "completion_tokens": pa.int64(),
    "warnings": pa.list_(pa.string()),
    "error": pa.string(),
    "dropped": pa.bool_(),
    "phrasings": pa.list_(pa.list_(pa.float64())),
    "reply": pa.string(),
    "explanation": pa.string(),
}
COLUMNS = tuple(_TYPES)
LISTS = ("logprobs", "label_names", "phrasings")  # written as JSON where a column is text


def format_of(path: Path) -> Format:
    """The format a file's ending stands for. Raises IntakeError."""
    try:
        return _ENDINGS[path.suffix.lower()]
    except KeyError:
        raise IntakeError(
            f"{path.name} does not end in .csv, .jsonl or .parquet.",
            "The ending chooses the format; nothing was changed.",
        ) from None


def write(path: Path, format: Format, questions: Iterable[Counted]) -> int:
    """Write a file; returns how many lines. Raises OSError."""
    return _WRITERS[format](path, map(row_of, questions))


def row_of(question: Counted) -> dict[str, Any]:
    """A line of the table, by column."""
    answer, decision = question.answer, question.decision
    said = decision or answer
    assert said is not None
    label_id = said.label_id
    if decision is not None and answer is not None and decision.label in answer.labels:
        label_id = answer.labels.index(decision.label)
    return {
        "id": said.id,
        "idx": answer.idx if answer else None,
        "text": question.text,
        "domain": question.domain,
        "run_id": answer.run_id if answer else said.run_id,
        "task": said.task,
        "dimension": said.dimension,
        "dimension_kind": answer.dimension_kind if answer else "",
        "label": said.label,
        "label_id": label_id,
        "confidence": said.confidence,
        "decided_by": decision.worker if decision else "model",
        "worker": said.worker,
        "ts": said.ts,
        "author": said.author,
        "seq": said.seq,
        "model_label": answer.label if answer else None,
        "model_confidence": answer.confidence if answer else None,
        "logprobs": answer.logprobs if answer else (),
        "label_names": answer.labels if answer else (),
        "labels": question.labels,
        "agreeing": question.agreeing,
        "model": answer.model if answer else "",
        "model_digest": answer.model_digest if answer else "",
        "prompt_id": answer.prompt_id if answer else "",
        "claim": answer.claim if answer else "",
        "epoch": answer.epoch if answer else 0,
        "seconds": answer.seconds if answer else 0.0,
        "prompt_tokens": answer.prompt_tokens if answer else 0,
        "completion_tokens": answer.completion_tokens if answer else 0,
        "warnings": answer.warnings if answer else (),
        "error": answer.error if answer else "",
        "dropped": answer is not None and answer.kind == "drop",
        "phrasings": answer.phrasings if answer else (),
        "reply": answer.reply if answer else "",
        "explanation": answer.explanation if answer else "",
    }


def _parquet(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    schema = pa.schema(_TYPES.items())
    written = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
            written += len(batch)
    return written


def _csv(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        written = 0
        for row in rows:
            lists = {name: msgspec.json.encode(row[name]).decode() for name in LISTS}
            writer.writerow(row | lists | {"warnings": "; ".join(row["warnings"])})
            written += 1
    return written


def _jsonl(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    with open(path, "wb") as file:
        written = 0
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")
            written += 1
    return written


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row["text"])
        if len(batch) == BATCH or size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_WRITERS: dict[Format, Callable[[Path, Iterator[dict[str, Any]]], int]] = {
    "parquet": _parquet,
    "csv": _csv,
    "jsonl": _jsonl,
}
