"""What each rule of docs/RULES.md forbids, as a change to the code that its tests must notice.

The readable twins are changed and run; the compiled ones tell the same story by other tests.
`tests/test_rules.py` applies the mutants one by one (`pytest -m soak`). What is imported from
the proxy is imported by the mutants when they run: their processes change it before.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.mutation import Change, instead, swap, within


@dataclass(frozen=True)
class Mutant:
    """A rule that is broken on purpose, and the tests of the rule that fail then."""

    rule: int
    says: str
    changes: tuple[Change, ...]
    kills: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule}: {self.says}"


def mutant(rule: int, says: str, changes: list[Change], *kills: str) -> Mutant:
    return Mutant(rule, says, tuple(changes), kills)


# Objects that take the place of others


def put_at_once(self: Any, reply: bytes) -> None:
    self._out.append(reply)
    self._out_bytes += len(reply)


def queue_in_any_database(
    self: Any, raw: bytes, waiter: Any, db: int = 0, replies: int = 1
) -> None:
    self._queue(raw, waiter, db, replies)


def run_shared(session: Any, command: Any, request: Any, now: float, db: int | None = None) -> None:
    from proxy.dispatch import opaque

    opaque(session, command, request, now)


def discard_always(self: Any, upstream: Any) -> None:
    _disown(upstream)
    self.discard(upstream)


def keep_uncleaned(self: Any, upstream: Any) -> None:
    _disown(upstream)
    self._idle.append(upstream)


def _disown(upstream: Any) -> None:
    upstream.on_owner_lost = None
    upstream.patient = False
    upstream.pipe.tap = None
    upstream.pipe.tap_all = False


def resolve_once(connect: Callable[..., Any]) -> Callable[..., Any]:
    addresses: dict[str, tuple[str, int]] = {}

    async def _connect(self: Any, endpoint: Any) -> None:
        if endpoint.host not in addresses:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(endpoint.host, endpoint.port)
            addresses[endpoint.host] = found[0][4][:2]
        host, port = addresses[endpoint.host]
        await connect(self, replace(endpoint, host=host, port=port))

    return _connect


class SendAgain:
    """The waiter of a write; it sends a write that was lost once more."""

    def __init__(self, slot: Any, via: Any, raw: bytes, db: int) -> None:
        self.on_reply, self._again = slot.on_reply, (slot, via, raw, db)

    def on_lost(self, reason: str, sent: bool) -> None:
        slot, via, raw, db = self._again
        asyncio.get_running_loop().call_later(0.3, lambda: via.send(raw, slot, db))


def send_twice(session: Any, via: Any, request: Any, slot: Any) -> None:
    if via.ready:
        _, buffer, start, end = request
        raw = buffer[start:end]
        via.send(raw, SendAgain(slot, via, raw, session.db), session.db)
    else:
        slot.on_lost(via.reason, False)


def start_only_connected(start: Callable[..., Any]) -> Callable[..., Any]:
    async def start_if_connected(self: Any) -> None:
        try:
            await self._connector.connect()
        except Exception:
            return
        await start(self)

    return start_if_connected


def read_defaults_on_error(init: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(self: Any, terrace: Any, config: Any, read: Any) -> None:
        from proxy.config.load import ConfigError
        from proxy.config.model import Config

        def read_leniently() -> Any:
            try:
                return read()
            except ConfigError:
                return Config()

        init(self, terrace, config, read_leniently)

    return __init__


def close_before_reload(reload_certificates: Callable[..., Any]) -> Callable[..., Any]:
    def closing(self: Any, tls: Any = None) -> None:
        for server in self._servers.pop("tls", []):
            server.close()
        reload_certificates(self, tls)

    return closing


def last_sent_at(self: Any) -> float | None:
    return self.last_sent_at if self._batches else None


MUTANTS = (
    mutant(1, "local answers overtake", [
        instead("proxy.client._pipe_py:ClientPipe._put", put_at_once),
    ], "test_replies_leave_in_the_order_of_the_requests"),
    mutant(2, "a connection on which a client was blocked is used again", [
        within("proxy.private.connection:PrivateConnection.abandon", "self._owes", "False"),
        within("tiers.l2.private:PrivatePool.give_back", "len(upstream.pipe)", "False"),
    ], "test_a_client_that_leaves_while_blocked_leaves_no_waiter"),
    mutant(2, "after its deadline a request is given up, its connection goes on", [
        within("tiers.l2.kept_upstream:KeptUpstream.watch",
               "upstream.abort(reason)", "upstream.pipe.fail_all(reason)"),
    ], "test_a_silent_server_is_given_up_at_the_deadline"),
    mutant(3, "a write in flight does not keep hits away", [
        within("proxy.client.slots:WriteSlot.__init__", "coherence.begin_write(keys)"),
    ], "test_a_pipelined_get_sees_the_set_before_it"),
    mutant(4, "L1 keys know no database", [
        instead("proxy.client.session:get_variant", lambda db: b""),
    ], "test_databases_are_apart_in_l1"),
    mutant(4, "CLIENT in a transaction is about the upstream connection", [
        within("proxy.private.queueing:queue", "becomes is InMulti.ANSWERED", "False"),
    ], "test_what_is_about_the_client_is_answered_by_terrace"),
    mutant(4, "SELECT in a transaction is not followed", [
        within("proxy.private.queueing:_select.follow", "private.session.set_db(db)"),
    ], "test_a_select_counts_wherever_it_stands_in_a_transaction"),
    mutant(4, "a command that writes follows a SELECT that is not confirmed", [
        within("proxy.flow.routing:route", "roams or l2.tracked.fits(session.db)", "True"),
        instead("tiers.l2.upstream:Upstream.read", queue_in_any_database),
        instead("tiers.l2.upstream:Upstream.send", queue_in_any_database),
    ], "test_a_write_never_follows_a_select_that_is_not_confirmed"),
    mutant(5, "blocking commands share a connection", [
        instead("proxy.private.blocking:run_alone", run_shared),
        instead("proxy.commands.command:Command.is_blocking", lambda self, args: False),
    ], "test_a_blocking_command_holds_up_only_its_own_client"),
    mutant(5, "the connection of a client that left stays", [
        within("proxy.client.session:Session.close", "self.private is not None", "False"),
    ], "test_a_client_that_leaves_takes_nothing_along"),
    mutant(6, "a connection per transaction", [
        instead("tiers.l2.private:PrivatePool.give_back", discard_always),
    ], "test_300_transactions_of_eight_clients_open_no_connection"),
    mutant(6, "given back as it is", [
        instead("tiers.l2.private:PrivatePool.give_back", keep_uncleaned),
    ], "test_nothing_of_a_client_clings_to_its_connection"),
    mutant(7, "L1 answers in WATCH", [
        within("proxy.client._pipe_py:ClientPipe.is_plain", "self.private is None", "True"),
    ], "test_watch_keeps_the_connection_until_exec"),
    mutant(7, "EXEC writes nothing, as far as L1 knows", [
        within("proxy.private.transactions:ExecSlot.__init__", "transaction.keys", "[]"),
    ], "test_a_transaction_runs_on_a_private_connection_and_gives_it_back"),
    mutant(8, "a thousand arguments before the login", [
        instead("tiers.wire._requests_py:PREAUTH_MULTIBULK_MAX", 1000),
    ], "test_before_authentication_requests_are_small"),
    mutant(8, "long arguments before the login", [
        instead("tiers.wire._requests_py:PREAUTH_BULK_MAX_BYTES", 16 * 1024**2),
    ], "test_before_authentication_requests_are_small"),
    mutant(9, "no bound on one client's unread replies", [
        within("proxy.client.connection:Connection.close_if_stuck",
               "now - self._read_at > self.limits.unread_timeout_s > 0", "False"),
    ], "test_a_client_that_does_not_read_its_replies"),
    mutant(9, "no bound on all clients' unread replies", [
        instead("proxy.client.output_budget:OutputBudget.largest_over",
                lambda self, added_bytes: None),
    ], "test_all_clients_together_leave_too_much_unread"),
    mutant(9, "slow subscribers stay", [
        within("proxy.client.connection:Connection._bound_owed",
               "subscribed and session.unread_bytes > limits.subscriber_buffer_bytes", "False"),
    ], "test_a_slow_subscriber_is_dropped"),
    mutant(10, "reading is paused for good", [
        within("proxy.client.connection:Connection._bound_input",
               "self._reading or session.rests", "True"),
    ], "test_much_more_than_the_query_buffer_in_flight_is_only_slowed_down"),
    mutant(10, "a blocked client may send without end", [
        within("proxy.client.connection:Connection._bound_input",
               "must_read and too_much", "False"),
    ], "test_too_much_behind_a_blocking_command"),
    mutant(11, "a write for each reply", [
        instead("proxy.client.connection:Connection._wake", lambda self: self._flush()),
    ], "test_replies_of_one_tick_leave_in_one_write"),
    mutant(12, "idle connections are not probed", [
        within("tiers.l2.kept_upstream:KeptUpstream.watch",
               "now - upstream.pipe.last_sent_at > self.options.ping_interval_s", "False"),
    ], "test_an_idle_connection_is_probed_and_a_half_open_one_found_out"),
    mutant(12, "no keepalive", [
        instead("tiers.l2.upstream:set_keepalive", lambda sock, idle_s=0, user_timeout_ms=0: None),
    ], "test_dead_peers_are_found_by_the_kernel_too"),
    mutant(12, "the name is looked up once", [
        swap("tiers.l2.upstream:Upstream._connect", resolve_once),
    ], "test_every_attempt_looks_the_name_up_anew"),
    mutant(13, "a write is sent again", [
        instead("proxy.flow.routing:send", send_twice),
    ], "test_a_write_that_was_sent_is_not_retried"),
    mutant(13, "a lost write says that it was not sent", [
        within("proxy.client.slots:WriteSlot.on_lost",
               "self.session.lost_write(reason, sent)", "self.session.lost_write(reason, False)"),
    ], "test_a_write_says_whether_it_was_sent"),
    mutant(14, "what was sent last moves the deadline of all", [
        instead("tiers.wire._pipe_py:UpstreamPipe.waiting_since", last_sent_at),
    ], "test_the_oldest_request_says_since_when_is_waited"),
    mutant(15, "an error of the data opens the breaker of L3", [
        within("tiers.pg.pool:LoadPool._run", "self._breaker.on_success()",
               "self._breaker.on_hard_failure('an error')", handler="psycopg.Error"),
    ], "test_an_error_of_the_data_is_none_of_the_server"),
    mutant(15, "an error reply ends the connection", [
        within("tiers.wire._pipe_py:UpstreamPipe.feed", "pending.popleft()",
               "pending.popleft() if frame[:1] != b'-'"
               " else (_ for _ in ()).throw(ProtocolError('an error'))"),
    ], "test_error_replies_are_no_fault_of_the_connection"),
    mutant(16, "a failed element is a nil", [
        within("proxy.flow.mget:MgetSlot.load.on_loaded",
               "outcome.is_failure and self.session.config.l3.on_error == 'error'", "False"),
    ], "test_one_failed_element_fails_the_whole_mget"),
    mutant(17, "waits for Redis before it listens", [
        within("proxy.server:Terrace.start", "await self.stack.start()",
               "(await self.stack.start(), await self.stack.l2.wait_ready(60))"),
    ], "test_starts_with_redis_down"),
    mutant(17, "ready as soon as it is alive", [
        within("proxy.server:Terrace.ready", "self.stack.l2.ready", "True"),
    ], "test_starts_with_redis_down"),
    mutant(17, "Postgres that is down at the start is given up", [
        swap("tiers.l3.postgres:L3Postgres.start", start_only_connected),
    ], "test_starts_before_postgres_and_recovers_by_itself"),
    mutant(18, "hits are for all clients", [
        within("proxy.client._pipe_py:ClientPipe._run",
               "self.can_hit(now) and self.user.unrestricted", "self.can_hit(now)", every=True),
    ], "test_what_another_filled_is_not_hit"),
    mutant(18, "rules are those of the login", [
        within("proxy.acl.acl:Acl.adopt", "user is not session.user", "False"),
    ], "test_the_next_command_is_judged_by_the_new_rules"),
    mutant(19, "clients of any host are served", [
        instead("proxy.server:is_loopback", lambda address: True),
    ], "test_protected_mode_asks_where_a_client_comes_from_not_how"),
    mutant(20, "a key may end its parameter", [
        within("tiers.pg.rows:array_literal", "'\"' in text", "False"),
    ], "test_hostile_keys_are_absent_and_harm_no_other_key"),
    mutant(20, "any text is sent as an integer", [
        within("tiers.pg.types:_integer_of.is_integer",
               "_INTEGER.match(text) is None", "False"),
    ], "test_key_types"),
    mutant(21, "a byte is lost where the input is cut", [
        within("tiers.wire._requests_py:RequestScanner.feed",
               "data[pos:] if pos else data", "data[pos + 1 :]"),
    ], "test_requests"),
    mutant(21, "clients that leave in the middle are kept", [
        within("proxy.client.connection:Connection.connection_lost",
               "self._terrace.close_session(self.session)"),
    ], "test_half_a_command_and_gone"),
    mutant(22, "client certificates are not asked for", [
        swap("proxy.workers.tls:_CLIENT_AUTH", lambda modes: dict.fromkeys(modes, ssl.CERT_NONE)),
    ], "test_client_certificates_are_required"),
    mutant(22, "any Redis is trusted", [
        within("tiers.l2.tls:ClientTls._load", "not options.tls_verify", "True"),
    ], "test_a_stranger_is_not_trusted"),
    mutant(22, "settings of TLS for PostgreSQL are lost", [
        within("tiers.pg.connection:conninfo_of", "{**defaults, **given}",
               "{**defaults, **given, 'sslmode': 'require', 'sslrootcert': None}"),
    ], "test_a_server_with_a_strange_certificate_is_not_used"),
    mutant(23, "ACL LOG tells what a failed login tried", [
        within("proxy.acl.acl:Acl.user_for",
               "self.log.record('auth', context, command, name, self._describe(session.ident))",
               "self.log.record('auth', context, command, password,"
               " self._describe(session.ident))"),
    ], "test_logins_are_in_no_log_of_redis_and_none_of_terrace"),
    mutant(23, "CONFIG GET tells passwords of Redis", [
        instead("proxy.acl.redis_secrets:hide_secrets", lambda reply: reply),
    ], "test_no_secret_of_redis_is_told"),
    mutant(23, "CONFIG GET tells passwords of Terrace", [
        within("proxy.handlers.config:_text", "row.secret", "False"),
    ], "test_no_secret_is_told"),
    mutant(24, "what is right of a wrong configuration is taken over", [
        within("proxy.reload:Reloader.reload", "_shortened(error.problems)",
               "setattr(terrace, 'config', config) or _shortened(error.problems)",
               handler="UsersFileError"),
        within("proxy.reload:Reloader.reload", "_shortened(str(error).splitlines())",
               "terrace.acl.adopt(users) or _shortened(str(error).splitlines())",
               handler="CertificateError"),
    ], "test_users_and_certificates_come_or_go_together"),
    mutant(24, "a reload swaps what needs a restart", [
        instead("proxy.reload:Reloader._is_live", lambda self, path, wanted: True),
    ], "test_what_can_be_swapped_is_and_the_rest_is_named"),
    mutant(24, "a configuration that cannot be read is none", [
        swap("proxy.reload:Reloader.__init__", read_defaults_on_error),
    ], "test_a_bad_configuration_changes_nothing", "test_sighup_tells_the_log"),
    mutant(24, "old certificates go before the new ones are read", [
        swap("proxy.workers.listeners:Listeners.reload_certificates", close_before_reload),
    ], "test_sighup_with_a_bad_file_keeps_the_old_certificate"),
    mutant(25, "commands are counted as clients write them", [
        within("proxy.dispatch:dispatch", "session.stats.commands[name]",
               "session.stats.commands[args[0].decode('latin-1')]"),
    ], "test_labels_do_not_grow_with_what_clients_send"),
    mutant(26, "what is in flight is cut off", [
        within("proxy.client.connection:Connection.close_when_drained",
               "session.in_flight or left or session.blocked == 'task'", "False"),
    ], "test_sigterm_answers_what_is_in_flight"),
    mutant(26, "draining takes as long as it takes", [
        within("proxy.server:Terrace.drain", "(elapsed_s := self.clock() - began) < deadline_s",
               "(elapsed_s := self.clock() - began) < 1000 * deadline_s"),
    ], "test_the_deadline_of_draining"),
    mutant(26, "the second signal is like the first", [
        within("proxy.serve:_Service._on_signal", "self._hurry.set()"),
    ], "test_a_second_signal_ends_at_once"),
)  # fmt: skip
