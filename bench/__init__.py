"""Terrace beside the plain Redis, measured in the same run on the same machine.

The nouns, and which way they flow:

    cases, measures, l3    what is compared: rows of data, and what needs code of its own
      -> rounds            the contenders of a case in turn, and the median of their ratios
      -> servers           the processes: Redis, Terrace with each core, twemproxy, PostgreSQL
      -> load              the generator: redis-benchmark, or `bench.generator` where it must be
      -> cpu               who runs on which core, and the CPU time a server took
      -> results, derived  what came out, as JSON in bench/results/
      -> report, charts    the same as tables, Markdown and SVG

The server under test has one core, and the load generator another. Where there are only
these two, the Redis behind Terrace shares that of Terrace: on the generator's it would keep
the clients from sending. CPU time per operation of the server's processes is the figure to
judge by: unlike throughput it does not depend on how fast the generator is.

`python -m bench.hit_ratio DIRECTORY` is apart from that: it replays key traces.
"""
