"""The engine and its cluster as text for Prometheus, exposition format 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from workspace.facts import EngineStatus, RunProgress
from workspace.machines import Machine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Metric:
    """One metric: samples are (labels, value); None is left out, as nothing is known then."""

    name: str
    help: str
    samples: Iterable[tuple[Labels, float | None]]
    kind: str = field(default="gauge")


def exposition(status: EngineStatus | None) -> str:
    """All metrics; of an engine that is not there only that."""
    lines: list[str] = []
    for metric in _metrics(status):
        samples = [(labels, value) for labels, value in metric.samples if value is not None]
        if samples:
            lines.append(f"# HELP {metric.name} {_escaped(metric.help, quotes=False)}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            lines += [f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _metrics(status: EngineStatus | None) -> Iterator[Metric]:
    yield Metric("winnow_engine_up", "Whether the engine process answers.", [({}, status is not None)])
    if status is None:
        return
    cluster = status.cluster
    names = {machine.id: machine.name for machine in cluster.machines}
    info = {"node": status.node, "author": status.author, "cluster": cluster.id}
    yield Metric("winnow_engine_info", "What the engine is; always 1.", [(info, 1)])
    yield Metric("winnow_model_loaded", "Whether a model is in memory.", [({}, status.worker_pid != 0)])
    authors = [({"author": author, "machine": names.get(author[:32], "")}, author) for author in status.vector]
    yield Metric(
        "winnow_facts_total",
        "Facts of this author on this machine's disk.",
        [(labels, status.vector[author]) for labels, author in authors],
        "counter",
    )
    yield Metric(
        "winnow_facts_copies",
        "Machines that hold every fact of this author that this one holds, this one included.",
        [(labels, status.copies.get(author)) for labels, author in authors],
    )
    yield Metric("winnow_cluster_epoch", "Number of the leadership.", [({}, cluster.epoch)])
    yield Metric("winnow_cluster_machines", "Machines of the cluster.", [({}, len(cluster.machines))])
    yield Metric("winnow_cluster_copies", "Machines that hold every fact this one holds.", [({}, cluster.copies)])
    yield from _of_runs(status.runs)
    yield from _of_machines(cluster.machines, cluster.leader)


def _of_runs(runs: Iterable[RunProgress]) -> Iterator[Metric]:
    labeled = [({"run": run.run_id}, run) for run in runs]
    states = [({**labels, "state": run.state}, 1.0) for labels, run in labeled]
    yield Metric("winnow_run_state", "1 for the state a run is in.", states)
    yield Metric("winnow_run_rows", "Rows planned.", [(labels, run.rows) for labels, run in labeled])
    yield Metric(
        "winnow_run_done_rows",
        "Rows with every dimension answered, errors included.",
        [(labels, run.done) for labels, run in labeled],
    )
    yield Metric(
        "winnow_run_failed_rows", "Rows done with an error.", [(labels, run.failed) for labels, run in labeled]
    )
    yield Metric(
        "winnow_run_rows_per_second",
        "Speed of the last minute of work, 0 while unknown.",
        [(labels, run.rows_per_s) for labels, run in labeled],
    )
    yield Metric(
        "winnow_run_remaining_seconds",
        "Expected time until the run is done.",
        [(labels, run.seconds_left) for labels, run in labeled],
    )


def _of_machines(machines: Iterable[Machine], leader: str) -> Iterator[Metric]:
    labeled = [({"machine": machine.id, "name": machine.name}, machine) for machine in machines]

    def of(name: str, help: str, values: Iterable[float | None]) -> Metric:
        pairs = zip((labels for labels, _ in labeled), values, strict=True)
        return Metric(f"winnow_machine_{name}", help, list(pairs))

    found = [machine for _, machine in labeled]
    yield of("up", "Whether the machine is heard of.", (machine.alive for machine in found))
    yield of("leader", "Whether it hands out the work.", (machine.id == leader for machine in found))
    yield of("paused", "Whether it was paused by a person.", (machine.paused for machine in found))
    yield of("silent_seconds", "Since it was last heard of.", (machine.silent_for for machine in found))
    yield of("cores", "Processor cores.", (machine.cores or None for machine in found))
    yield of("memory_bytes", "Memory.", (machine.memory or None for machine in found))
    yield of("memory_free_bytes", "Memory that is free.", (machine.memory_free or None for machine in found))
    yield of("rows_per_second", "Rows it labels in a second.", (machine.rows_per_s for machine in found))
    yield of("claims", "Claims it holds.", (machine.claims for machine in found))
    yield of(
        "behind_facts",
        "Facts this machine holds and that one not yet.",
        (machine.facts_behind for machine in found),
    )
    yield of(
        "agreement_ratio",
        "Share of its answers that another machine gave as well.",
        (machine.agreement for machine in found),
    )
    yield of("compared_answers", "Answers behind the agreement.", (machine.compared for machine in found))
    yield of("fitness_ratio", "From agreement and speed, 0 to 1.", (machine.fitness for machine in found))


def _labels(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(text: str, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))  # True is 1
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))
