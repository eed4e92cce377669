"""Benchmarks: Terrace beside the plain Redis, in the same run on the same machine.

The modules, in the order of a run:

    cases, measures, l3    the comparisons: rows of data, and those with their own code
      -> rounds            the contenders of a case in turn, and the median of their ratios
      -> servers           the processes: Redis, Terrace with each core, twemproxy, PostgreSQL
      -> load              the generator: redis-benchmark, or `bench.generator` if necessary
      -> cpu               the cores of the processes, and the CPU time of a server
      -> results, derived  the results, as JSON in bench/results/
      -> report, charts    the results as tables, Markdown and SVG

The server under test has one core, and the load generator another. On a machine with two
cores, Redis shares the core of Terrace: on the generator's core it would slow the clients
down. The decisive figure is the CPU time per operation of the server's processes: unlike
throughput it does not depend on the speed of the generator.

`python -m bench.hit_ratio DIRECTORY` is separate: it replays key traces.
"""
