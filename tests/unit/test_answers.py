"""The answers kept for benchmarks are those of the weights they say, and of no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks._answers import BY_NAME, answers, store, stored
from benchmarks.make_answers import complete
from engine.models import catalog


def test_kept_answers_belong_to_the_embedded_model() -> None:
    assert {answers("smollm2", name).digest for name in BY_NAME} == {catalog.embedded().digest}


def test_what_is_stored_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "answers.npz"
    kept = answers("smollm2", "sms_spam")
    store([replace(kept, model="qwen", digest="another")], file)
    ((key, found),) = stored(file).items()
    assert key == ("qwen", "sms_spam")
    assert (found.digest, found.labels) == ("another", kept.labels)
    assert np.array_equal(found.logprobs, kept.logprobs)
    assert np.array_equal(found.gold, kept.gold)
    assert np.array_equal(found.rows, kept.rows)


def test_answers_of_other_weights_are_not_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "answers.npz"
    store([replace(answers("smollm2", "sms_spam"), digest="another")], file)
    before = file.read_bytes()
    with pytest.raises(benchmarks.MissingData, match="not those of"):
        complete(tmp_path, "smollm2", catalog.embedded(), {"sms_spam": 3000}, file)
    assert file.read_bytes() == before
