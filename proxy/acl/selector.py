"""A selector: one set of rights to commands, keys and channels, and its decision. No IO.

The language and its special cases are those of Redis 7.0 (acl.c):

  - `+@all` is more than the sum of all commands: it includes future commands. A later
    `-x` ends that.
  - `+get|x` allows a command by its first argument, only if the command has no
    subcommands. A rule about a container (`+config`) applies to all its subcommands.
  - A command needs a key for reading, for writing, or (EXISTS, TYPE, …) for neither:
    then any matching pattern suffices.

Rules are kept as written, without those that a later rule overrides, as Redis 7.2
lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tiers.proxy_door import glob_matcher

from .. import errors
from ..commands.access import READ, WRITE
from ..commands.facts import CATEGORY_NAMES, CommandFacts
from ..commands.table import COMMANDS, named

SPACES = frozenset(b" \t\r\n\v\f\0")
_LETTERS = {READ | WRITE: b"~", READ: b"%R~", WRITE: b"%W~"}

# The texts are Redis' own.
SYNTAX_ERROR = "Syntax error"
_UNKNOWN_NAME = "Unknown command or category name in ACL"
_FIRST_ARG = "Allowing first-arg of a subcommand is not supported"
_AFTER_ALL_KEYS = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have "
    "any effect. Try 'resetkeys' to start with an empty list of patterns"
)
_AFTER_ALL_CHANNELS = (
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not "
    "have any effect. Try 'resetchannels' to start with an empty list of channels"
)


class RuleError(ValueError):
    """A rule that cannot be applied."""


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal. `about` is the command, or the key or channel at `position`."""

    reason: Literal["command", "key", "channel"]
    command: str
    about: bytes
    position: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """Redis reports the selector whose check got furthest."""
        return (("command", "key", "channel").index(self.reason), self.position)

    @property
    def text(self) -> str:
        """The text for clients."""
        if self.reason == "command":
            return f"this user has no permissions to run the '{self.command}' command"
        return f"this user has no permissions to access one of the {self.reason}s used as arguments"

    @property
    def detail(self) -> str:
        """The text of ACL DRYRUN."""
        if self.reason == "command":
            return f"This user has no permissions to run the '{self.command}' command"
        return (
            f"This user has no permissions to access the '{errors.shown(self.about)}' {self.reason}"
        )


@dataclass(frozen=True, slots=True)
class KeyPattern:
    pattern: bytes
    access: int  # the READ and WRITE bits that it grants
    matches: Callable[[bytes], bool] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Selector:
    """One set of rights. `commands` has full names ("get", "config|get")."""

    all_commands: bool = False
    future_commands: bool = False
    commands: frozenset[str] = frozenset()
    first_args: frozenset[tuple[str, bytes]] = frozenset()
    command_rules: tuple[str, ...] = ()
    all_keys: bool = False
    keys: tuple[KeyPattern, ...] = ()
    all_channels: bool = False
    channels: tuple[bytes, ...] = ()

    @property
    def unrestricted(self) -> bool:
        return self.all_commands and self.all_keys and self.all_channels

    def denial(self, facts: CommandFacts, args: Sequence[bytes]) -> Denial | None:
        if not self._allows_command(facts, args):
            return Denial("command", facts.name, facts.name.encode())
        if not self.all_keys:
            for position, access in facts.keys(args):
                if not self.allows_key(args[position], access):
                    return Denial("key", facts.name, args[position], position)
        if not self.all_channels:
            for position in facts.channels(args):
                if not self.allows_channel(args[position], facts.channel_patterns):
                    return Denial("channel", facts.name, args[position], position)
        return None

    def _allows_command(self, facts: CommandFacts, args: Sequence[bytes]) -> bool:
        if self.all_commands or facts.no_auth or facts.name in self.commands:
            return True
        return len(args) > 1 and (facts.name, args[1].lower()) in self.first_args

    def allows_unknown(self, name: str) -> bool:
        """A command with unknown keys needs rights to all keys and channels."""
        return (self.all_commands or name in self.commands) and self.all_keys and self.all_channels

    def allows_key(self, key: bytes, access: int) -> bool:
        return self.all_keys or any(
            pattern.access & access == access and pattern.matches(key) for pattern in self.keys
        )

    def reads_every_key(self) -> bool:
        """Whether it allows keys that only the data names (SORT … BY, GET)."""
        return self.all_keys or any(p.access & READ and p.pattern == b"*" for p in self.keys)

    def allows_channel(self, channel: bytes, is_pattern: bool) -> bool:
        if self.all_channels:
            return True
        if is_pattern:  # matching cannot decide whether one pattern covers another
            return channel in self.channels
        return any(_matcher(pattern)(channel) for pattern in self.channels)

    # As text

    @property
    def commands_text(self) -> bytes:
        start = "+@all" if self.future_commands else "-@all"
        return " ".join((start, *self.command_rules)).encode("latin-1")

    @property
    def keys_text(self) -> bytes:
        if self.all_keys:
            return b"~*"
        return b" ".join(_LETTERS[pattern.access] + pattern.pattern for pattern in self.keys)

    @property
    def channels_text(self) -> bytes:
        return b"&*" if self.all_channels else b" ".join(b"&" + name for name in self.channels)

    def describe(self) -> bytes:
        channels = self.channels_text
        if not self.all_channels:
            channels = b"resetchannels " + channels
        return b" ".join(
            part for part in (self.keys_text, channels.strip(), self.commands_text) if part
        )

    # Rules

    def with_rule(self, rule: bytes, *, lenient: bool = False) -> Selector:
        """The selector with one more rule. `lenient` as in `User.with_rules`. Raises RuleError."""
        match rule.lower():
            case b"allkeys" | b"~*":
                return replace(self, all_keys=True, keys=())
            case b"resetkeys":
                return replace(self, all_keys=False, keys=())
            case b"allchannels" | b"&*":
                return replace(self, all_channels=True, channels=())
            case b"resetchannels":
                return replace(self, all_channels=False, channels=())
            case b"allcommands" | b"+@all":
                return replace(
                    self, all_commands=True, future_commands=True, command_rules=(),
                    commands=_ALL_NAMES, first_args=frozenset(),
                )  # fmt: skip
            case b"nocommands" | b"-@all":
                return replace(
                    self, all_commands=False, future_commands=False, command_rules=(),
                    commands=frozenset(), first_args=frozenset(),
                )  # fmt: skip
        match rule[:1]:
            case b"~" | b"%":
                return self._with_key_pattern(rule)
            case b"&":
                return self._with_channel(rule[1:])
            case b"+" | b"-":
                return self._with_commands(rule[:1] == b"+", rule[1:].decode("latin-1"), lenient)
        raise RuleError(SYNTAX_ERROR)

    def _with_key_pattern(self, rule: bytes) -> Selector:
        if self.all_keys:
            raise RuleError(_AFTER_ALL_KEYS)
        letters, _, text = rule.partition(b"~")
        access = READ | WRITE
        if letters:
            wanted = letters[1:].upper()
            if not wanted or sorted(wanted) not in ([*b"R"], [*b"W"], [*b"RW"]):
                raise RuleError(SYNTAX_ERROR)
            access = (READ if b"R" in wanted else 0) | (WRITE if b"W" in wanted else 0)
        if not SPACES.isdisjoint(text):
            raise RuleError(SYNTAX_ERROR)
        keys = list(self.keys)
        for at, known in enumerate(keys):
            if known.pattern == text:
                keys[at] = replace(known, access=known.access | access)
                break
        else:
            keys.append(KeyPattern(text, access, _matcher(text)))
        return replace(self, keys=tuple(keys))

    def _with_channel(self, text: bytes) -> Selector:
        if self.all_channels:
            raise RuleError(_AFTER_ALL_CHANNELS)
        if not SPACES.isdisjoint(text):
            raise RuleError(SYNTAX_ERROR)
        if text in self.channels:
            return self
        return replace(self, channels=(*self.channels, text))

    def _with_commands(self, allow: bool, text: str, lenient: bool) -> Selector:
        text = text.lower()
        if text.startswith("@"):
            if text[1:] not in CATEGORY_NAMES:
                return self._without_unknown(allow, lenient)
            rows = [row for row in _every_row() if text[1:] in row.categories]
            return self._with_rows(allow, text, rows)
        row = named(text)
        if row is not None:
            return self._with_rows(allow, text, [row])
        command, bar, first_arg = text.rpartition("|")
        known = named(command) if bar else None
        if bar and allow and known is not None:
            if "|" in command:
                raise RuleError(_FIRST_ARG)
            if not first_arg:
                raise RuleError(SYNTAX_ERROR)
            if not known.subcommands:
                return self._with_first_arg(command, first_arg)
        if not bar and (lenient or _is_module_command(text)):
            unknown = CommandFacts(text, -1, frozenset())
            return self._with_rows(allow, text, [unknown])
        return self._without_unknown(allow, lenient)

    def _without_unknown(self, allow: bool, lenient: bool) -> Selector:
        if not lenient:
            raise RuleError(_UNKNOWN_NAME)
        # No known command changes; but the rule may remove a future command.
        return self if allow else replace(self, all_commands=False)

    def _with_rows(self, allow: bool, text: str, rows: Sequence[CommandFacts]) -> Selector:
        names = {member.name for row in rows for member in row.family}
        if allow and names <= self.commands:
            return self
        return replace(
            self,
            all_commands=self.all_commands and allow,
            commands=self.commands | names if allow else self.commands - names,
            first_args=frozenset(pair for pair in self.first_args if pair[0] not in names),
            command_rules=self._rules_with(("+" if allow else "-") + text),
        )

    def _with_first_arg(self, command: str, first_arg: str) -> Selector:
        if command in self.commands:
            return self
        return replace(
            self,
            first_args=self.first_args | {(command, first_arg.encode("latin-1"))},
            command_rules=self._rules_with(f"+{command}|{first_arg}"),
        )

    def _rules_with(self, rule: str) -> tuple[str, ...]:
        """The rules and a new one, without older rules about the same command or its parts."""
        subject = rule[1:]
        kept = (
            known
            for known in self.command_rules
            if known[1:] != subject and not known[1:].startswith(subject + "|")
        )
        return (*kept, rule)


def _matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """As in Redis, not even `*` matches an empty key; only the empty pattern does."""
    matches = glob_matcher(pattern)
    return lambda text: matches(text) if text else not pattern


def _is_module_command(name: str) -> bool:
    """Modules name their commands "module.command"; the table cannot know them."""
    module, dot, command = name.partition(".")
    return bool(dot and module and command) and module != "tier" and name.isascii()


def _every_row() -> Iterator[CommandFacts]:
    return (member for row in COMMANDS.values() for member in row.family)


_ALL_NAMES = frozenset(row.name for row in _every_row())
