"""What each rule of docs/RULES.md forbids, as a change to the code that its tests must notice.

The readable twins are changed and run; the compiled ones tell the same story by other tests.
`tests/test_rules.py` applies the mutants one by one, in a copy (`pytest -m soak`).
"""

from __future__ import annotations

from dataclasses import dataclass

Edit = tuple[str, str, str]
"""File, text that is there once, what it becomes."""


@dataclass(frozen=True)
class Mutant:
    """A rule that is broken on purpose, and the tests of the rule that fail then."""

    rule: int
    says: str
    edits: tuple[Edit, ...]
    kills: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule}: {self.says}"


def mutant(rule: int, says: str, edits: list[Edit], *kills: str) -> Mutant:
    return Mutant(rule, says, tuple(edits), kills)


_RETRY = """\
via.send(buffer[start:end], _Again(slot, via, buffer[start:end], session.db), session.db)


class _Again:
    def __init__(self, slot: Slot, via: Via, raw: bytes, db: int) -> None:
        self.on_reply, self.again = slot.on_reply, (slot, via, raw, db)

    def on_lost(self, reason: str, sent: bool) -> None:
        import asyncio

        slot, via, raw, db = self.again
        asyncio.get_running_loop().call_later(0.3, lambda: via.send(raw, slot, db))


def _unused(via, buffer, start, end, slot, session):
    if via.ready:
        pass"""

MUTANTS = (
    mutant(1, "local answers overtake", [
        ("proxy/client/_pipe_py.py",
         "        if self._slots:\n            self._slots.append(Done(reply))",
         "        if False:\n            self._slots.append(Done(reply))"),
    ], "test_replies_leave_in_the_order_of_the_requests"),
    mutant(2, "a connection somebody was blocked on is used again", [
        ("proxy/private/connection.py", "states.SPOILS or self._owes", "states.SPOILS"),
        ("tiers/l2/private.py",
         "not upstream.ready or len(upstream.pipe) or self", "not upstream.ready or self"),
    ], "test_a_client_that_leaves_while_blocked_leaves_no_waiter"),
    mutant(2, "after its deadline a request is given up, its connection goes on", [
        ("tiers/l2/kept_upstream.py",
         "timed_out=True))\n                upstream.abort(reason)",
         "timed_out=True))\n                upstream.pipe.fail_all(reason)"),
    ], "test_a_silent_server_is_given_up_at_the_deadline"),
    mutant(3, "a write in flight does not keep hits away", [
        ("proxy/client/slots.py", "            coherence.begin_write(keys)", "            pass"),
    ], "test_a_pipelined_get_sees_the_set_before_it"),
    mutant(4, "L1 keys know no database", [
        ("proxy/client/session.py",
         "self.get_variant = get_variant(db)", "self.get_variant = get_variant(0)"),
    ], "test_databases_are_apart_in_l1"),
    mutant(4, "CLIENT in a transaction is about the upstream connection", [
        ("proxy/private/queueing.py", "if becomes is InMulti.ANSWERED:", "if False:"),
    ], "test_what_is_about_the_client_is_answered_by_terrace"),
    mutant(4, "SELECT in a transaction is not followed", [
        ("proxy/private/queueing.py", "            private.session.set_db(db)\n", ""),
    ], "test_a_select_counts_wherever_it_stands_in_a_transaction"),
    mutant(4, "a command that writes follows a SELECT that is not confirmed", [
        ("proxy/flow/routing.py",
         "            and (roams or l2.tracked.fits(session.db))\n", ""),
        ("tiers/l2/upstream.py",
         "(self._queue if self.roams else self.send)(raw", "self._queue(raw"),
        ("tiers/l2/upstream.py",
         '            waiter.on_lost(f"its connection is not in database {db}", False)',
         "            self._queue(raw, waiter, db, replies)"),
    ], "test_a_write_never_follows_a_select_that_is_not_confirmed"),
    mutant(5, "blocking commands share a connection", [
        ("proxy/private/blocking.py",
         "    private = acquire(session, request, db)\n    if private is None:\n        return\n",
         "    from ..dispatch import opaque\n    opaque(session, command, request, now)\n"
         "    return\n"),
        ("proxy/dispatch.py",
         "def opaque(session: Session, command: Command, request: Request, now: float) -> None:\n"
         "    if command.is_blocking(request[0]):",
         "def opaque(session: Session, command: Command, request: Request, now: float) -> None:\n"
         "    if False:"),
    ], "test_a_blocking_command_holds_up_only_its_own_client"),
    mutant(5, "the connection of a client that left stays", [
        ("proxy/client/session.py",
         "        if self.private is not None:\n            self.private.abandon()",
         "        if False:\n            self.private.abandon()"),
    ], "test_a_client_that_leaves_takes_nothing_along"),
    mutant(6, "a connection per transaction", [
        ("tiers/l2/private.py",
         "upstream.send(raw, _Cleaned(self, upstream, len(commands), db), ANY_DB, len(commands))",
         "self.discard(upstream)"),
    ], "test_300_transactions_of_eight_clients_open_no_connection"),
    mutant(6, "given back as it is", [
        ("tiers/l2/private.py",
         "upstream.send(raw, _Cleaned(self, upstream, len(commands), db), ANY_DB, len(commands))",
         "self._idle.append(upstream)"),
    ], "test_nothing_of_a_client_clings_to_its_connection"),
    mutant(7, "L1 answers in WATCH", [
        ("proxy/client/_pipe_py.py", "            and self.private is None\n", ""),
    ], "test_watch_keeps_the_connection_until_exec"),
    mutant(7, "EXEC writes nothing, as far as L1 knows", [
        ("proxy/private/transactions.py", "            transaction.keys,\n", "            [],\n"),
    ], "test_a_transaction_runs_on_a_private_connection_and_gives_it_back"),
    mutant(8, "a thousand arguments before the login", [
        ("tiers/wire/_requests_py.py", "MULTIBULK_MAX = 10 ", "MULTIBULK_MAX = 1000 "),
    ], "test_before_authentication_requests_are_small"),
    mutant(8, "long arguments before the login", [
        ("tiers/wire/_requests_py.py",
         "PREAUTH_BULK_MAX_BYTES = 16 * 1024", "PREAUTH_BULK_MAX_BYTES = 16 * 1024**2"),
    ], "test_before_authentication_requests_are_small"),
    mutant(9, "no bound on one client's unread replies", [
        ("proxy/client/connection.py",
         "elif now - self._read_at > self.limits.unread_timeout_s > 0:", "elif False:"),
    ], "test_a_client_that_does_not_read_its_replies"),
    mutant(9, "no bound on all clients' unread replies", [
        ("proxy/client/output_budget.py",
         "if self._upper_bytes <= self.total_bytes or", "if True or"),
    ], "test_all_clients_together_leave_too_much_unread"),
    mutant(9, "slow subscribers stay", [
        ("proxy/client/connection.py",
         "if subscribed and session.unread_bytes", "if False and session.unread_bytes"),
    ], "test_a_slow_subscriber_is_dropped"),
    mutant(10, "reading is paused for good", [
        ("proxy/client/connection.py", "not (self._reading or", "False and (self._reading or"),
    ], "test_much_more_than_the_query_buffer_in_flight_is_only_slowed_down"),
    mutant(10, "a blocked client may send without end", [
        ("proxy/client/connection.py", "if must_read and too_much:", "if False:"),
    ], "test_too_much_behind_a_blocking_command"),
    mutant(11, "a write for each reply", [
        ("proxy/client/connection.py", "self._terrace.mark_dirty(self)", "self._flush()"),
    ], "test_replies_of_one_tick_leave_in_one_write"),
    mutant(12, "idle connections are not probed", [
        ("tiers/l2/kept_upstream.py",
         "elif now - upstream.pipe.last_sent_at > self.options.ping_interval_s:", "elif False:"),
    ], "test_an_idle_connection_is_probed_and_a_half_open_one_found_out"),
    mutant(12, "no keepalive", [
        ("tiers/l2/upstream.py", "            set_keepalive(sock)\n", ""),
    ], "test_dead_peers_are_found_by_the_kernel_too"),
    mutant(12, "the name is looked up once", [
        ("tiers/l2/upstream.py",
         "        await loop.create_connection(lambda: self, endpoint.host, endpoint.port,",
         "        if endpoint.host not in _FOUND:\n"
         "            found = await loop.getaddrinfo(endpoint.host, endpoint.port)\n"
         "            _FOUND[endpoint.host] = found[0][4][:2]\n"
         "        await loop.create_connection(lambda: self, *_FOUND[endpoint.host],"),
        ("tiers/l2/upstream.py", "TCP_KEEPALIVE_S = 15\n", "TCP_KEEPALIVE_S = 15\n_FOUND = {}\n"),
    ], "test_every_attempt_looks_the_name_up_anew"),
    mutant(13, "a write is sent again", [
        ("proxy/flow/routing.py",
         "slot: Slot) -> None:\n    if via.ready:\n        _, buffer, start, end = request\n"
         "        via.send(buffer[start:end], slot, session.db)",
         "slot: Slot) -> None:\n    if via.ready:\n        _, buffer, start, end = request\n"
         f"        {_RETRY}"),
    ], "test_a_write_that_was_sent_is_not_retried"),
    mutant(13, "a lost write says that it was not sent", [
        ("proxy/client/slots.py",
         "            self.coherence.end_write(self.keys)\n"
         "        self.finish(self.session.lost_write(reason, sent))",
         "            self.coherence.end_write(self.keys)\n"
         "        self.finish(self.session.lost_write(reason, False))"),
    ], "test_a_write_says_whether_it_was_sent"),
    mutant(14, "what was sent last moves the deadline of all", [
        ("tiers/wire/_pipe_py.py",
         "return self._batches[0][1] if self._batches else None",
         "return self.last_sent_at if self._batches else None"),
    ], "test_the_oldest_request_says_since_when_is_waited"),
    mutant(15, "an error of the data opens the breaker of L3", [
        ("tiers/pg/pool.py",
         "self._breaker.on_success()  # the server is there: it answered",
         'self._breaker.on_hard_failure("an error")'),
    ], "test_an_error_of_the_data_is_none_of_the_server"),
    mutant(15, "an error reply ends the connection", [
        ("tiers/wire/_pipe_py.py",
         "            waiter = pending.popleft()\n",
         "            waiter = pending.popleft()\n            if frame[:1] == b'-':\n"
         "                raise ProtocolError('an error')\n"),
    ], "test_error_replies_are_no_fault_of_the_connection"),
    mutant(16, "a failed element is a nil", [
        ("proxy/flow/mget.py",
         'if outcome.is_failure and self.session.config.l3.on_error == "error":', "if False:"),
    ], "test_one_failed_element_fails_the_whole_mget"),
    mutant(17, "waits for Redis before it listens", [
        ("proxy/server.py",
         "        await self.stack.start()\n",
         "        await self.stack.start()\n        await self.stack.l2.wait_ready(60)\n"),
    ], "test_starts_with_redis_down"),
    mutant(17, "ready as soon as it is alive", [
        ("proxy/server.py",
         "return is_open and self.stack.l2.ready and not", "return is_open and not"),
    ], "test_starts_with_redis_down"),
    mutant(17, "Postgres that is down at the start is given up", [
        ("tiers/l3/postgres.py",
         '        self._tasks.start("link", self._link.keep())\n',
         "        try:\n"
         "            await self._connector.connect()\n"
         "        except Exception:\n"
         "            return\n"
         '        self._tasks.start("link", self._link.keep())\n'),
    ], "test_starts_before_postgres_and_recovers_by_itself"),
    mutant(18, "hits are for everybody", [
        ("proxy/client/_pipe_py.py",
         "        fast = self.can_hit(now) and self.user.unrestricted\n",
         "        fast = self.can_hit(now)\n"),
    ], "test_what_another_filled_is_not_hit"),
    mutant(18, "rules are those of the login", [
        ("proxy/acl/acl.py", "elif user is not session.user:", "elif False:"),
    ], "test_the_next_command_is_judged_by_the_new_rules"),
    mutant(19, "anybody is served", [
        ("proxy/server.py", "if listen.protected_mode and", "if False and"),
    ], "test_protected_mode_asks_where_a_client_comes_from_not_how"),
    mutant(20, "a key may end its parameter", [
        ("tiers/pg/rows.py", "    if '\"' in text:\n", "    if False:\n"),
    ], "test_hostile_keys_are_absent_and_harm_no_other_key"),
    mutant(20, "any text is sent as an integer", [
        ("tiers/pg/types.py",
         "        if _INTEGER.match(text) is None:\n            return False\n", ""),
    ], "test_key_types"),
    mutant(21, "a byte is lost where the input is cut", [
        ("tiers/wire/_requests_py.py",
         "self._chunks.append(data[pos:] if pos else data)",
         "self._chunks.append(data[pos + 1 :])"),
    ], "test_requests"),
    mutant(21, "clients that leave in the middle are kept", [
        ("proxy/client/connection.py",
         "            self._terrace.close_session(self.session)\n", ""),
    ], "test_half_a_command_and_gone"),
    mutant(22, "client certificates are not asked for", [
        ("proxy/workers/tls.py", "_CLIENT_AUTH[options.client_auth]", "ssl.CERT_NONE"),
    ], "test_client_certificates_are_required"),
    mutant(22, "any Redis is trusted", [
        ("tiers/l2/tls.py", "        if not options.tls_verify:", "        if True:"),
    ], "test_a_stranger_is_not_trusted"),
    mutant(22, "settings of TLS for PostgreSQL are lost", [
        ("tiers/pg/connection.py",
         "{**defaults, **given}",
         '{**defaults, **given, "sslmode": "require", "sslrootcert": None}'),
    ], "test_a_server_with_a_strange_certificate_is_not_used"),
    mutant(23, "ACL LOG tells what a failed login tried", [
        ("proxy/acl/acl.py",
         'self.log.record("auth", context, command, name,',
         'self.log.record("auth", context, command, password,'),
    ], "test_logins_are_in_no_log_of_redis_and_none_of_terrace"),
    mutant(23, "CONFIG GET tells passwords of Redis", [
        ("proxy/acl/redis_secrets.py",
         "            words[at + 1] = bulk(b\"\")", "            pass"),
    ], "test_no_secret_of_redis_is_told"),
    mutant(23, "CONFIG GET tells passwords of Terrace", [
        ("proxy/handlers/config.py", "    if row.secret:", "    if False:"),
    ], "test_no_secret_is_told"),
    mutant(24, "what is right of a wrong configuration is taken over", [
        ("proxy/reload.py",
         "        except UsersFileError as error:\n",
         "        except UsersFileError as error:\n            terrace.config = config\n"),
        ("proxy/reload.py",
         "        except CertificateError as error:\n",
         "        except CertificateError as error:\n            terrace.acl.adopt(users)\n"),
    ], "test_users_and_certificates_come_or_go_together"),
    mutant(24, "a reload swaps what needs a restart", [
        ("proxy/reload.py", "        return path in LIVE\n", "        return True\n"),
    ], "test_what_can_be_swapped_is_and_the_rest_is_named"),
    mutant(24, "a configuration that cannot be read is none", [
        ("proxy/reload.py",
         "            raise NotReloaded(_told([str(problem) for problem in error.problems]))"
         " from None",
         "            result, config = self._plan(Config())\n            users = None"),
    ], "test_a_bad_configuration_changes_nothing", "test_sighup_tells_the_log"),
    mutant(24, "old certificates go before the new ones are read", [
        ("proxy/workers/listeners.py",
         "        context = server_context(tls)\n        self._tls = tls",
         "        for server in self._servers.pop(\"tls\", []):\n            server.close()\n"
         "        context = server_context(tls)\n        self._tls = tls"),
    ], "test_sighup_with_a_bad_file_keeps_the_old_certificate"),
    mutant(25, "commands are counted as clients write them", [
        ("proxy/dispatch.py",
         "    session.stats.commands[name] += 1\n",
         '    session.stats.commands[args[0].decode("latin-1")] += 1\n'),
    ], "test_labels_do_not_grow_with_what_clients_send"),
    mutant(26, "what is in flight is cut off", [
        ("proxy/client/connection.py",
         '(session.in_flight or left or session.blocked == "task"):', "False:"),
    ], "test_sigterm_answers_what_is_in_flight"),
    mutant(26, "draining takes as long as it takes", [
        ("proxy/server.py",
         "while (gone_s := self.clock() - began) < deadline_s:",
         "while (gone_s := self.clock() - began) < 1000 * deadline_s:"),
    ], "test_the_deadline_of_draining"),
    mutant(26, "the second signal is like the first", [
        ("proxy/serve.py", "            self._hurry.set()\n", "            pass\n"),
    ], "test_a_second_signal_ends_at_once"),
)  # fmt: skip
