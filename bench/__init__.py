"""Terrace beside the plain Redis, measured in the same run on the same machine.

The nouns, and which way they flow:

    cases, measures   what is compared (rows of data; the few that need code of their own)
      -> servers      the processes: a plain Redis, a Redis behind Terrace, Terrace, PostgreSQL
      -> load         the generator: redis-benchmark, or `bench.generator` where that is missing
      -> cpu          who runs on which core, and the CPU time a server took
      -> results      what came out, as JSON in bench/results/
      -> report       the same as a table for the terminal, as text, as Markdown

The server under test has one core to itself. The load generator has another, which it
shares with the Redis behind Terrace where there are only two. CPU time per operation
of the server's processes is the figure to judge by: unlike throughput it does not
depend on how fast the generator is.

`python -m bench.hit_ratio DIRECTORY` is apart from that: it replays key traces.
"""
