"""The Redis-speaking front of Terrace. This file is the map; there is no code in it.

The nouns, and which way they flow:

  Connection   a client's socket: bytes in, bytes out, flow control    client/connection.py
    -> Session     the client's state machine: reply slots, ordering   client/session.py
      -> Command       a row of the command table: how a request       commands/
                       travels, what it touches, what it needs
        -> dispatch        classify, check, run now or later           dispatch.py
          -> Slot              a reply to come, with the coherence     client/slots.py
                               steps of its command
          -> flow/             reads, writes, and rows of mapped keys
          -> private/          a connection for one client: transactions,
                               pub/sub, blocking commands, MONITOR
          -> handlers/         what Terrace answers itself
        -> tiers               L1, L2, L3 and what crosses them        (package tiers)

The bytes of a request go down this list. Its reply comes back through its slot and leaves
when it is the oldest one, in one write per client and tick.

`acl/` decides first whether the user may run the command. `refusals` counts what is refused,
and why. `client/pause.py` holds clients back before that (CLIENT PAUSE).

Around it: `config/` (one table of options), `cli` (commands for people), `serve` (the process:
start, signals, exit), `server` (one worker: its clients, drain), `workers/` (several of them),
`figures/` and `http/` (metrics and health), `embedded/` (a real Redis and PostgreSQL for
`make run` and the tests).

`client/host.py` is what all of these know of the server. Imports go down only: the layers are
contracts in pyproject.toml.
"""
