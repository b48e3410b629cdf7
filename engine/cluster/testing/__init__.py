"""A simulated cluster: many machines, their disks, the network between them and the people at them, in one thread.

One seed is one history. Machines crash, stand still, lose their disks; cables are cut and messages lost, doubled
and late; people plan rows, pause, decide, pair, revoke and export all the while. Every machine runs the very same
`engine.cluster.core.Core` as in production. Then everything is healed, and what must always hold is checked.

    python -m engine.cluster.testing --seeds 2000

tries 2,000 histories on all cores and ends with one line that says it all. `--start 1234 --seeds 1 --story 200`
tells the last 200 events of one, `--kind islands` keeps to one kind of history, and `--mutant NAME` puts a known
mistake into the core, which the checks have to find. The parts:

- `clock`      clocks that are off and drift, and the queue of what happens next
- `disk`       a ledger in memory with the rules of the real one; what was not synced is gone after a crash
- `network`    cuts, loss, doubles, delays
- `worker`     the backend: speed, poisonous rows, missing models, standing still
- `machine`    one machine: a core, its clock, its disk, its worker, one life of the process after another
- `people`     what people do at the machines
- `profiles`   kinds of histories: which faults there are, and how often
- `faults`     the faults, striking
- `cluster`    a whole history from its seed
- `watch`      what must hold all the time: I1, I4 to I7, I9 to I11, I13
- `invariants` what must hold at the end: I1 to I3, I8 to I10, I12
- `mutants`    known mistakes, to test the checks
- `seeds`      many histories on all cores

I1 what a machine said it holds is never lost while it has its disk; I2 in the end all hold the same facts and come
to the same labels; I3 every row of a run has one label that counts; I4 what is held only grows; I5 a place in a
log is used once; I6 an epoch belongs to one life of one process; I7 no command below the highest epoch heard of is
obeyed; I8 when all is well again, everything ends; I9 nothing is computed twice without need; I10 what people
decide is never hidden or lost; I11 nothing is done for a machine known to be removed; I12 a sealed export never
changes; I13 what a core keeps is bounded.
"""
