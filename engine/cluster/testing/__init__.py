"""A simulated cluster: many machines, their disks, the network between them and the people at them, in one thread.

One seed is one history. Machines crash, stand still, lose their disks; cables are cut and messages lost, doubled
and late; people plan rows, pause, decide, pair, revoke and export all the while. Every machine runs the very same
`engine.cluster.core.Core` as in production. Then everything is healed, and what must always hold is checked.

    python -m engine.cluster.testing --seeds 2000

tries 2,000 histories on all cores; with `--start 1234 --seeds 1 --story 200` it tells the last 200 events of one.
`--mutant NAME` puts a known mistake into the core: the checks have to find it. The parts:

- `clock`      clocks that are off and drift, and the queue of what happens next
- `disk`       a ledger in memory with the rules of the real one; what was not synced is gone after a crash
- `network`    cuts, loss, doubles, delays
- `worker`     the backend: speed, poisonous rows, missing models, standing still
- `machine`    one machine: a core, its clock, its disk, its worker, one life of the process after another
- `people`     what people do at the machines
- `faults`     which faults there are in this history, and when they strike
- `cluster`    a whole history from its seed
- `invariants` what must hold, I1 to I13
- `mutants`    known mistakes, to test the checks
- `seeds`      many histories on all cores
"""
