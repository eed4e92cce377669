"""The proxy of Terrace, which speaks the Redis protocol. This file is a map without code.

The main classes and rooms, in the order of a request:

  Connection   a client's socket: bytes in, bytes out, flow control    client/connection.py
    -> Session     the client's state machine: reply slots, ordering   client/session.py
      -> Command       a row of the command table: how to handle a     commands/
                       request, its keys, its needs
        -> dispatch        classify, check, run now or later           dispatch.py
          -> Slot              a future reply, with the coherence      client/slots.py
                               steps of its command
          -> flow/             reads, writes, and rows of mapped keys
          -> private/          a connection for one client: transactions,
                               pub/sub, blocking commands, MONITOR
          -> handlers/         commands that Terrace answers itself
        -> tiers               L1, L2, L3 and the paths between them   (package tiers)

A request goes down this list. Its reply comes back through its slot and is sent when it is
the oldest one, in one write per client and tick.

`acl/` first decides whether the user may run the command. `refusals` counts refusals by
reason. `client/pause.py` holds clients back before that (CLIENT PAUSE).

Around it: `config/` (one table of options), `cli` (commands for people), `serve` (the process:
start, signals, exit), `server` (one worker: its clients, drain), `workers/` (several of them),
`figures/` and `http/` (metrics and health), `embedded/` (a real Redis and PostgreSQL for
`make run` and the tests).

`client/host.py` is the interface of the server for all of these. Imports go only down: the
layers are contracts in pyproject.toml.
"""
