"""Users: parses Redis' ACL rules into immutable users, which allow or deny commands. No IO.

A user has a root selector and any number of further selectors, `(rules…)`. A command
is allowed if one selector allows all of it: command, keys and channels.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..commands.facts import CommandFacts
from .selector import SPACES, Denial, RuleError, Selector

_HASH_LENGTH = 64
_BAD_HASH = (
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal "
    "characters"
)
_NO_PASSWORD = "The password you are trying to remove from the user does not exist"  # noqa: S105


@dataclass(frozen=True, slots=True)
class User:
    """An immutable user; a changed user is a new object."""

    name: bytes
    on: bool = False
    nopass: bool = False
    passwords: tuple[str, ...] = ()  # SHA-256, hexadecimal
    sanitize: str = ""  # as written; Terrace does not check payloads
    selectors: tuple[Selector, ...] = (Selector(),)
    unrestricted: bool = field(init=False)

    def __post_init__(self) -> None:
        unrestricted = any(selector.unrestricted for selector in self.selectors)
        object.__setattr__(self, "unrestricted", unrestricted)

    def accepts(self, password: bytes) -> bool:
        """Whether this password is valid for the user."""
        if not self.on:
            return False
        if self.nopass:
            return True
        digest = sha256(password)
        return any(hmac.compare_digest(digest, known) for known in self.passwords)

    def denial(self, facts: CommandFacts, args: Sequence[bytes]) -> Denial | None:
        """Why this user must not run a command; None if one selector allows all of it."""
        worst: Denial | None = None
        for selector in self.selectors:
            denial = selector.denial(facts, args)
            if denial is None:
                return None
            if worst is None or denial.rank > worst.rank:
                worst = denial
        return worst

    def allows_unknown(self, name: str) -> bool:
        return any(selector.allows_unknown(name) for selector in self.selectors)

    def reads_every_key(self, facts: CommandFacts, args: Sequence[bytes]) -> bool:
        return any(
            selector.reads_every_key() and selector.denial(facts, args) is None
            for selector in self.selectors
        )

    def allows_channel(self, channel: bytes, is_pattern: bool) -> bool:
        return any(selector.allows_channel(channel, is_pattern) for selector in self.selectors)

    # As text

    @property
    def flags(self) -> tuple[str, ...]:
        flags = ("on" if self.on else "off", "nopass" if self.nopass else "", self.sanitize)
        return tuple(flag for flag in flags if flag)

    def describe(self) -> bytes:
        """One line of ACL LIST."""
        root, *more = self.selectors
        words = [b"user", self.name, *(flag.encode() for flag in self.flags)]
        words += [b"#" + password.encode() for password in self.passwords]
        words += [root.describe(), *(b"(" + selector.describe() + b")" for selector in more)]
        return b" ".join(words)

    # Rules

    def with_rules(self, rules: Sequence[bytes], *, lenient: bool = False) -> User:
        """The user with further rules. Raises RuleError, which names the rule but no password.

        `lenient`: the rules come from a Redis that may know more commands and categories. An
        unknown rule grants only a command by name; one that removes something ends `+@all`.
        """
        user = self
        for rule in _joined(rules):
            try:
                user = user._with_rule(rule, lenient)
            except RuleError as error:
                raise RuleError(f"'{_shown(rule)}': {error}") from None
        return user

    def _with_rule(self, rule: bytes, lenient: bool) -> User:
        match rule.lower():
            case b"":
                return self
            case b"on" | b"off" as word:
                return replace(self, on=word == b"on")
            case b"nopass":
                return replace(self, nopass=True, passwords=())
            case b"resetpass":
                return replace(self, nopass=False, passwords=())
            case b"sanitize-payload" | b"skip-sanitize-payload" as word:
                return replace(self, sanitize=word.decode())
            case b"clearselectors":
                return replace(self, selectors=self.selectors[:1])
            case b"reset":
                return User(self.name, sanitize="sanitize-payload")
        match rule[:1]:
            case b">" | b"#":
                digest = _digest(rule)
                known = [password for password in self.passwords if password != digest]
                return replace(self, nopass=False, passwords=(*known, digest))
            case b"<" | b"!":
                digest = _digest(rule)
                if digest not in self.passwords:
                    raise RuleError(_NO_PASSWORD)
                left = tuple(password for password in self.passwords if password != digest)
                return replace(self, passwords=left)
            case b"(" if rule[-1:] == b")":
                selector = Selector()
                for part in rule[1:-1].split():
                    selector = selector.with_rule(part, lenient=lenient)
                return replace(self, selectors=(*self.selectors, selector))
        root, *more = self.selectors
        return replace(self, selectors=(root.with_rule(rule, lenient=lenient), *more))


def full_user(name: bytes, *, password: str = "") -> User:
    """A user with all rights; without `password`, a login needs no password."""
    login = b">" + password.encode() if password else b"nopass"
    return User(name).with_rules([b"on", login, b"~*", b"&*", b"+@all"])


def sha256(password: bytes) -> str:
    return hashlib.sha256(password).hexdigest()


def is_valid_name(name: bytes) -> bool:
    return bool(name) and SPACES.isdisjoint(name)


def _digest(rule: bytes) -> str:
    """SHA-256 of the password in `>p` or `<p`; or the digest in `#h` or `!h`."""
    if rule[:1] in b"><":
        return sha256(rule[1:])
    text = rule[1:].decode("latin-1")
    if len(text) != _HASH_LENGTH or not set(text) <= set("0123456789abcdef"):
        raise RuleError(_BAD_HASH)
    return text


def _joined(rules: Sequence[bytes]) -> Iterator[bytes]:
    """Join the words of selectors that were split at their spaces."""
    open_rule: list[bytes] = []
    for rule in rules:
        if open_rule or (rule[:1] == b"(" and rule[-1:] != b")"):
            open_rule.append(rule)
            if rule[-1:] == b")":
                yield b" ".join(open_rule)
                open_rule = []
        else:
            yield rule
    if open_rule:
        shown = _shown(open_rule[0])
        raise RuleError(f"Unmatched parenthesis in acl selector starting at '{shown}'.")


def _shown(rule: bytes) -> str:
    """A rule for an error message; a password is never shown."""
    if rule[:1] in (b">", b"<", b"#", b"!"):
        return rule[:1].decode() + "***"
    return rule[:128].decode("utf-8", "replace")
