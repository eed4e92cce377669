"""The Redis-speaking front of Terrace. This file is the map; there is no code in it.

The nouns, and which way they flow:

  Connection   a client's socket: bytes in, bytes out, flow control      connection.py
    -> Session     the client's state machine: reply slots, ordering     session.py
      -> Command       a row of the command table: how a request travels commands.py
                       (kept in agreement with the server by   command_source.py)
        -> dispatch        classify, check, run now, upstream or later   dispatch.py
                           (which connection: routing.py; with the rows that a command
                           needs: guarded.py load_first.py, lending.py in a transaction)
          -> Slot              a reply to come; carries the coherence    slots.py reads.py
                               steps of its command
          -> PrivateConnection  one of its own to Redis, and why       connection.py
                               a transaction on it          queueing.py transactions.py
          -> handlers/         what Terrace answers itself
        -> tiers               L1, L2, L3 and what crosses them          (package tiers)

Bytes of a request go down this list; its reply comes back through its slot and leaves
when it is the oldest one, in one write per client and tick.

`acl` says before all of them whether the user may: `acl_source` (where users come from),
`acl_rules` and `acl_selector` (what they may do), `command_access` (what a command touches).
`refusals` counts all that is refused to clients, and why.

`pause` holds clients back before they get that far (CLIENT PAUSE).

Around it: `config` and its neighbours (one option table), `cli` (commands for people),
`serve` (the process: start, signals, exit), `server` (one worker: its clients, drain),
`http/` (metrics and health), `embedded/` (a real Redis and PostgreSQL for `make run` and
the tests).
"""
