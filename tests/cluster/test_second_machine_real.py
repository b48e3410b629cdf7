"""The whole way to a second machine by commands a person types, with real engines and the embedded model."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks._cluster_second import two_machines
from tests.cluster.network import Network
from tests.waiting import wait_for

ROWS = 800  # more than the first machine labels while the second starts and is added


def test_a_second_machine_helps_with_what_the_first_one_labels(network: Network, tmp_path: Path) -> None:
    first, second = network.machine("first"), network.machine("second")
    with two_machines(first, second, tmp_path, ROWS, fresh=False) as (studio, _):
        ended = wait_for(lambda: studio.process.poll() is not None and [studio.process.returncode], "the end", 120)
    assert ended == [0]
    labels = [json.loads(line) for line in studio.out.read_text(encoding="utf-8").splitlines()]
    texts = {label["text"] for label in labels}
    assert len(labels) == len(texts) == ROWS
    assert all(label["sentiment"] for label in labels)
