"""Access control: the current users, logins, and the decision on every command.

Each session holds its current user (`session.user`), so that a user with all rights
costs one attribute per command. When users change, every session gets the new record
at once; sessions of deleted users are closed.

Redis also checks the indirect effects of a command: the calls of a script, the keys
that SORT reads by BY and GET. Terrace's connections to Redis have the rights of
`l2.url`, so Terrace must check or refuse these effects itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from tiers import L2Redis
from tiers.wire.resp import error

from .. import errors
from ..commands.command import UNKNOWN, Command
from ..commands.facts import CommandFacts, word
from ..refusals import Refusals
from .log import AclLog, Context
from .options import AclOptions
from .rules import User, full_user
from .selector import Denial
from .source import DEFAULT, RedisUsers, Users, read_users
from .subject import Subject

PASSWORD_MAX_BYTES = 64 * 1024  # limits the time of its hash
_SORT_OPTIONS = {b"LIMIT": 2, b"STORE": 1, b"BY": 1, b"GET": 1}
_SCRIPTS_REFUSED = error(
    "NOPERM terrace: scripts run with the rights of l2.url and cannot be checked against those "
    'of this user; acl.scripts = "declared_keys" allows them, checking only the keys they declare'
)


class Acl:
    """The users, logins and decisions; a change of users applies to `sessions`."""

    def __init__(
        self,
        options: AclOptions,
        password: str,
        l2: L2Redis,
        sessions: Mapping[int, Subject],
        clock: Callable[[], float],
        describe: Callable[[int], str],
        refusals: Refusals,
    ) -> None:
        """Without a source of users, `password` is the password of the only user.

        `describe` gives the CLIENT LIST line of a client. Raises UsersFileError.
        """
        self.options = options
        self.log = AclLog(options.log_max, clock)
        self._sessions = sessions
        self._describe = describe
        self._refusals = refusals
        self.redis: RedisUsers | None = None
        # Until the users of L2 are known, no client may run a command.
        self.users: Users = {DEFAULT: User(DEFAULT)}
        self.loaded = options.source != "redis"
        if options.source == "redis":
            self.redis = RedisUsers(l2, options.refresh_s, self.adopt)
        elif options.source == "file":
            self.users = read_users(options.file)
        else:
            self.users = {DEFAULT: full_user(DEFAULT, password=password)}

    def __repr__(self) -> str:
        return f"<Acl {self.options.source}: {len(self.users)} users>"

    @property
    def default(self) -> User:
        """The user of a new connection."""
        return self.users[DEFAULT]

    @property
    def is_open(self) -> bool:
        """Whether a new connection needs no login."""
        return self.default.on and self.default.nopass

    @property
    def not_logged_in(self) -> bytes:
        """The error for a client that must log in first, or cannot log in yet."""
        return errors.NOAUTH if self.loaded else self._not_loaded

    @property
    def login_failed(self) -> bytes:
        return errors.WRONGPASS if self.loaded else self._not_loaded

    @property
    def _not_loaded(self) -> bytes:
        assert self.redis is not None
        return error(
            'ERR terrace: the users of L2 (acl.source = "redis") are not known yet: '
            f"{self.redis.problem}"
        )

    # Logins

    def user_for(
        self, session: Subject, name: bytes, password: bytes, command: bytes
    ) -> User | None:
        """The user with this name and password; a failure goes into ACL LOG."""
        user = self.users.get(name)
        if user is not None and len(password) <= PASSWORD_MAX_BYTES and user.accepts(password):
            return user
        self._refusals.login(
            self._login_problem(user), session.address, name if user is not None else None
        )
        context = _context(session)
        self.log.record("auth", context, command, name, self._describe(session.ident))
        return None

    def _login_problem(self, user: User | None) -> str:
        if not self.loaded:
            return "users_not_loaded"
        if user is None:
            return "unknown_user"
        return "wrong_password" if user.on else "user_off"

    def note_needless_password(self, session: Subject) -> None:
        """Record AUTH with only a password, although the default user needs none."""
        self._refusals.login("no_password_set", session.address, DEFAULT)

    def note_no_login(self, session: Subject, command: str) -> None:
        """Record a command that was sent before its login."""
        self._note(session, "not_logged_in", command)

    # Decisions

    def refusal_before_login(
        self, session: Subject, command: Command, args: Sequence[bytes]
    ) -> bytes:
        """The error for a command before login. As in Redis, a wrong command is reported first."""
        facts, known = command.facts_of(args)
        if command is UNKNOWN:
            return errors.unknown_command(args)
        if facts is not None and not known:
            return errors.unknown_subcommand(facts.name.upper(), args[1])
        if facts is not None and not facts.accepts(len(args)):
            return errors.EXEC_ARITY if command.name == "EXEC" else errors.wrong_arity(facts.name)
        self.note_no_login(session, command.name.lower())
        refusal = self.not_logged_in
        return errors.exec_refused(refusal) if command.name == "EXEC" else refusal

    def refusal(self, session: Subject, command: Command, args: Sequence[bytes]) -> bytes | None:
        """The error for a command that this client must not run; None if it may."""
        user = session.user
        facts, known = command.facts_of(args)
        if facts is None:
            if user.allows_unknown(word(args[0])):
                return None
            beginning = args[0][: errors.SHOWN_BYTES]
            unknown = Denial("command", errors.shown(beginning), beginning)
            return self._refused(session, unknown, "(unknown)")
        if not known:
            if user.allows_unknown(facts.name):
                return None
            return errors.unknown_subcommand(facts.name.upper(), args[1])
        if len(args) < abs(facts.arity):
            return errors.wrong_arity(facts.name)
        denial = user.denial(facts, args)
        if denial is None:
            return self._hidden_refusal(session, command, facts, args)
        if not facts.accepts(len(args)):
            return errors.wrong_arity(facts.name)
        return self._refused(session, denial, facts.name)

    def _note(self, session: Subject, reason: str, command: str) -> None:
        name = session.user.name if session.authenticated else None
        self._refusals.command(reason, _context(session), session.address, name, command)

    def _refused(self, session: Subject, denial: Denial, command: str) -> bytes:
        self._note(session, denial.reason, command)
        self.log.record(
            denial.reason, _context(session), denial.about, session.user.name,
            self._describe(session.ident),
        )  # fmt: skip
        if denial.command == "exec":
            return error(f"EXECABORT Transaction discarded because of: NOPERM {denial.text}")
        return error(f"NOPERM {denial.text}")

    def _hidden_refusal(
        self, session: Subject, command: Command, facts: CommandFacts, args: Sequence[bytes]
    ) -> bytes | None:
        """The error for an indirect effect: keys or calls that no argument names."""
        if command.is_script and self.options.scripts == "refuse":
            self._note(session, "script", facts.name)
            return _SCRIPTS_REFUSED
        if command.reads_hidden and not session.user.reads_every_key(facts, args):
            option = _key_reading_option(args)
            if option:
                self._note(session, "key", facts.name)
                return error(
                    f"ERR {option} option of SORT denied due to insufficient ACL permissions."
                )
        return None

    # Changes

    async def read_file(self) -> Users:
        """The users of acl.file; its name is taken when the read ends. Raises UsersFileError."""
        while True:
            file = self.options.file
            users = await asyncio.to_thread(read_users, file)
            if file == self.options.file:
                return users

    def adopt(self, users: Users, *, current: Subject | None = None) -> None:
        """Make these users the current ones. `current` is the client that requested it."""
        self.users = {name: self._unless_equal(user) for name, user in users.items()}
        self.loaded = True
        for session in list(self._sessions.values()):
            user = self.users.get(session.user.name)
            if user is None:
                if session is current:
                    session.close_after_output()
                else:
                    session.on_close_request("its user was deleted")
            elif user is not session.user:
                self._change(session, user)
            if not session.authenticated and session.user is self.default and self.is_open:
                session.set_authenticated(True)

    def _unless_equal(self, user: User) -> User:
        known = self.users.get(user.name)
        return known if known == user else user

    def _change(self, session: Subject, user: User) -> None:
        session.user = user
        if user.unrestricted:
            return
        if session.in_multi:
            session.abort_transaction()  # its queued commands were checked by other rules
        for kind, names in session.subscriptions.items():
            if not all(user.allows_channel(name, kind == "patterns") for name in names):
                session.on_close_request("its user may no longer read a channel it subscribed to")
                return


def _context(session: Subject) -> Context:
    return "multi" if session.in_multi else "toplevel"


def _key_reading_option(args: Sequence[bytes]) -> str:
    """ "BY" or "GET" if it makes SORT read keys that no argument names, else ""."""
    at = 2
    while at < len(args) - 1:
        word = args[at].upper()
        if word == b"GET" or (word == b"BY" and b"*" in args[at + 1]):
            return word.decode()
        at += 1 + _SORT_OPTIONS.get(word, 0)
    return ""
