"""Rules between options, and rules that a type cannot express.

A broken rule names its options, the problem and the remedy. The loader adds the origin
of the values, and skips a rule about an option that is already wrong.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiers import L2Options, MappingProblem, StoreOptions, ViewOptions
from tiers.proxy_door import (
    CORE,
    VIEWS_MAX,
    Endpoint,
    Mappings,
    StoreMappings,
    ViewMapping,
    host_memory_bytes,
)

from ..acl.source import UsersFileError, read_users
from ..memory import LEAST_BYTES
from .option_table import toml_text

if TYPE_CHECKING:
    from .model import Config

_COMMAND_OVERHEAD_BYTES = 64 * 1024  # name, key and options around the largest bulk
_AUDIT_MIN_S = 0.1
_L1_LARGEST_SHARE = 10  # the arena refuses an entry above a tenth of its budget
_UNIX_PATH_BYTES = 107  # sun_path of Linux, without the final NUL
_BESIDE_BYTES = 8  # the temporary socket next to listen.handover: a dot and a process id
_ANY_HOST = ("0.0.0.0", "::", "*")  # noqa: S104 - compared, not bound
_THIS_HOST = ("localhost", "127.0.0.1", "::1", *_ANY_HOST)

# A mapping reports only its first problem; with that option made harmless it reports the next.
_HARMLESS: Mapping[str, Mapping[str, Any]] = {
    "keys": {"keys": "key:{key}", "key": {}},
    "key": {"key": {}},
    "reply": {"reply": "json"},
    "refresh": {"refresh": "manual"},
}


@dataclass(frozen=True, slots=True)
class Broken:
    """A broken rule about the options at `paths`; the message names the first that was set."""

    paths: tuple[str, ...]
    what: str


def broken_rules(config: Config) -> Iterator[Broken]:
    """All broken rules of a configuration whose single values are valid."""
    yield from _workers(config)
    yield from _namespaces(config)
    yield from _listeners(config)
    yield from _tls(config)
    yield from _acl(config)
    yield from _limits(config)
    yield from _l1(config)
    yield from _l2(config)
    yield from _l3(config)


def _workers(config: Config) -> Iterator[Broken]:
    if config.workers > 1 and CORE != "c":
        yield Broken(
            ("workers",),
            "more than one worker needs the compiled core, which is not in use; set workers = 1",
        )


def _namespaces(config: Config) -> Iterator[Broken]:
    patterns = Counter(table.match for table in config.namespace)
    for pattern in (pattern for pattern, count in patterns.items() if count > 1):
        yield Broken(
            ("namespace",), f'match = "{pattern}" has two [[namespace]] tables; make them one'
        )
    for table in config.namespace:
        given = table.model_fields_set
        if table.consistency == "strict" and "stale_on_error_s" in given and table.stale_on_error_s:
            yield Broken(
                ("namespace",),
                f'match = "{table.match}": strict keys are never served stale; remove '
                "stale_on_error, or lower consistency",
            )


def _listeners(config: Config) -> Iterator[Broken]:
    listen, admin = config.listen, config.admin
    same_host = listen.host == admin.host or {listen.host, admin.host} & set(_ANY_HOST)
    if admin.enabled and listen.port and listen.port == admin.port and same_host:
        yield Broken(
            ("admin.port", "listen.port"),
            f"listen.port and admin.port are both {listen.port}; give one of them another port",
        )
    for option, path, most_bytes in (
        ("listen.unix_socket", listen.unix_socket, _UNIX_PATH_BYTES),
        ("listen.handover", listen.handover, _UNIX_PATH_BYTES - _BESIDE_BYTES),
    ):
        path_bytes = len(os.fsencode(path))
        if path_bytes > most_bytes:
            yield Broken(
                (option,),
                f"the path has {path_bytes} bytes, the maximum for this socket is {most_bytes}; "
                "choose a shorter one",
            )
    if listen.handover and _same_path(listen.handover, listen.unix_socket):
        yield Broken(
            ("listen.handover", "listen.unix_socket"),
            "clients and a second Terrace cannot use the same socket; choose another path "
            "for one of them",
        )


def _tls(config: Config) -> Iterator[Broken]:
    tls, listen, admin = config.tls, config.listen, config.admin
    if not tls.port:
        return
    if tls.port == listen.port or (admin.enabled and tls.port == admin.port):
        other = "listen.port" if tls.port == listen.port else "admin.port"
        yield Broken(
            ("tls.port", other),
            f"tls.port and {other} are both {tls.port}; give one of them another port",
        )
    if not tls.cert_file:
        yield Broken(
            ("tls.cert_file", "tls.port"),
            "tls.port is set but tls.cert_file is empty; name the PEM file of the certificate",
        )
    if tls.client_ca_file and tls.client_auth == "off":
        yield Broken(
            ("tls.client_ca_file", "tls.client_auth"),
            "no client is asked for a certificate while tls.client_auth is off; "
            'set tls.client_auth to "required" or "optional"',
        )
    if tls.client_auth != "off" and not tls.client_ca_file:
        yield Broken(
            ("tls.client_auth",),
            "client certificates cannot be verified without tls.client_ca_file; "
            "name the PEM file of the authorities that sign them",
        )


def _acl(config: Config) -> Iterator[Broken]:
    acl = config.acl
    if acl.source == "file" and not acl.file:
        yield Broken(
            ("acl.file", "acl.source"),
            'acl.source is "file" but acl.file is empty; name the file of the users',
        )
    elif acl.source == "file":
        try:
            read_users(acl.file)
        except UsersFileError as error:
            yield Broken(("acl.file",), str(error))
    elif acl.file:
        yield Broken(
            ("acl.source", "acl.file"),
            'acl.file is not read while acl.source is not "file"; set it so, or remove acl.file',
        )
    if acl.source != "none" and config.listen.password:
        yield Broken(
            ("listen.password", "acl.source"),
            "is the password of the default user, which acl.source defines; set the "
            "password there and remove listen.password",
        )


def _limits(config: Config) -> Iterator[Broken]:
    limits = config.limits
    if limits.bulk_bytes + _COMMAND_OVERHEAD_BYTES > limits.query_buffer_bytes:
        yield Broken(
            ("limits.bulk_bytes", "limits.query_buffer_bytes"),
            f"the largest value ({_size(limits.bulk_bytes)}) and its command do not fit into "
            f"limits.query_buffer_bytes ({_size(limits.query_buffer_bytes)}); lower "
            "limits.bulk_bytes or raise limits.query_buffer_bytes",
        )
    if limits.output_total_bytes < limits.output_buffer_bytes:
        yield Broken(
            ("limits.output_total_bytes", "limits.output_buffer_bytes"),
            f"one client may use {_size(limits.output_buffer_bytes)} "
            f"(limits.output_buffer_bytes) but all together {_size(limits.output_total_bytes)}; "
            "raise limits.output_total_bytes",
        )
    if limits.output_buffer_bytes < limits.bulk_bytes:
        yield Broken(
            ("limits.output_buffer_bytes", "limits.bulk_bytes"),
            f"a client that reads the largest value ({_size(limits.bulk_bytes)}) would be dropped; "
            "raise limits.output_buffer_bytes to at least limits.bulk_bytes",
        )
    least_bytes = LEAST_BYTES * config.workers + (config.l1.max_bytes if config.l1.enabled else 0)
    if 0 < limits.memory_bytes < least_bytes:
        yield Broken(
            ("limits.memory_bytes", "l1.max_bytes"),
            f"must be at least {_size(least_bytes)}: l1.max_bytes, and {_size(LEAST_BYTES)} for "
            "each worker",
        )


def _l1(config: Config) -> Iterator[Broken]:
    # Only an explicit limit is compared with the budget: the default is a ceiling, and a
    # small cache keeps smaller values.
    l1 = config.l1
    if 0 < l1.audit_interval_s < _AUDIT_MIN_S:
        yield Broken(("l1.audit_interval",), "must be 0 or at least 100ms")
    memory_bytes = host_memory_bytes()
    if l1.enabled and 0 < memory_bytes < l1.max_bytes:
        yield Broken(
            ("l1.max_bytes",),
            f"{_size(l1.max_bytes)} is more than the {memory_bytes // 1024**2} MiB of memory of "
            "this host or container; lower it, and leave room for the rest",
        )
    largest_bytes = l1.max_bytes // _L1_LARGEST_SHARE
    if (
        "max_value_bytes" in l1.model_fields_set
        and l1.enabled
        and l1.max_value_bytes > largest_bytes
    ):
        yield Broken(
            ("l1.max_value_bytes", "l1.max_bytes"),
            f"values above a tenth of l1.max_bytes ({_size(l1.max_bytes)}) are never kept; "
            f"lower l1.max_value_bytes to {largest_bytes} or raise l1.max_bytes",
        )


def _l2(config: Config) -> Iterator[Broken]:
    l2 = config.l2
    try:
        endpoint = Endpoint.from_url(l2.url)
    except ValueError as problem:
        yield Broken(("l2.url",), str(problem))
    else:
        if _is_where_clients_come(config, endpoint):
            yield Broken(
                ("l2.url", "listen.port"),
                "is the address of this Terrace; set that of Redis, or move Terrace to another one",
            )
    yield from _l2_tls(l2)
    if l2.backoff_min_s > l2.backoff_max_s:
        yield Broken(
            ("l2.backoff_min", "l2.backoff_max"),
            f"l2.backoff_min ({l2.backoff_min_s:g}s) is longer than l2.backoff_max "
            f"({l2.backoff_max_s:g}s); swap them",
        )
    if l2.max_idle_pinned > l2.max_pinned:
        yield Broken(
            ("l2.max_idle_pinned", "l2.max_pinned"),
            f"more idle connections ({l2.max_idle_pinned}) than connections ({l2.max_pinned}); "
            "lower l2.max_idle_pinned",
        )


def _is_where_clients_come(config: Config, endpoint: Endpoint) -> bool:
    listen = config.listen
    if endpoint.path:
        return _same_path(endpoint.path, listen.unix_socket)
    one_host = endpoint.host == listen.host or {endpoint.host, listen.host} <= set(_THIS_HOST)
    return one_host and endpoint.port in (listen.port, config.tls.port)


def _same_path(one: str, other: str) -> bool:
    return bool(other) and os.path.abspath(one) == os.path.abspath(other)


def _l2_tls(l2: L2Options) -> Iterator[Broken]:
    if not l2.url.startswith("rediss://"):
        for name in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
            if getattr(l2, name):
                yield Broken(
                    (f"l2.{name}", "l2.url"),
                    "has no effect, as l2.url does not begin with rediss://; "
                    "change l2.url, or remove this",
                )
    elif l2.tls_key_file and not l2.tls_cert_file:
        yield Broken(
            ("l2.tls_key_file", "l2.tls_cert_file"),
            "has no certificate; set l2.tls_cert_file",
        )


def _l3(config: Config) -> Iterator[Broken]:
    l3 = config.l3
    if l3.store and not l3.dsn:
        yield Broken(
            ("l3.store", "l3.dsn"),
            "keys are stored but l3.dsn is empty; set l3.dsn or remove the [[l3.store]] tables",
        )
    if len(l3.view) > VIEWS_MAX:
        yield Broken(
            ("l3.view",),
            f"{len(l3.view)} views are mapped, the maximum is {VIEWS_MAX} (for SCAN); map fewer",
        )
    if l3.view and not l3.dsn:
        yield Broken(
            ("l3.view", "l3.dsn"),
            "views are mapped but l3.dsn is empty; set l3.dsn or remove the [[l3.view]] tables",
        )
    if l3.direct_dsn and not l3.dsn:
        yield Broken(
            ("l3.direct_dsn", "l3.dsn"),
            "the address past a pooler is set but l3.dsn is empty; set l3.dsn",
        )
    yield from _dsn("l3.dsn", l3.dsn)
    yield from _dsn("l3.direct_dsn", l3.direct_dsn)


def _dsn(path: str, dsn: str) -> Iterator[Broken]:
    scheme, is_url, _ = dsn.partition("://")
    if is_url and "=" not in scheme and scheme not in ("postgresql", "postgres"):
        yield Broken(
            (path,), "the scheme is not postgresql; write postgresql://user@host:port/database"
        )
    elif dsn and not is_url and "=" not in dsn:
        yield Broken(
            (path,),
            "is neither a URL nor key=value pairs; write postgresql://user@host:port/database "
            'or "host=… dbname=…"',
        )


def broken_view_rules(view: ViewOptions) -> Iterator[Broken]:
    """Problems of one [[l3.view]] table; paths are names within that table."""
    while True:
        try:
            ViewMapping(view)
            return
        except MappingProblem as error:
            option = error.problem.partition(" ")[0]
            written = getattr(view, option, None)
            said_twice = f'{option} = "{written}"'
            problem = error.problem.removeprefix(said_twice).lstrip(": ")
            yield Broken((option if written is not None else "view",), f"{problem}; {error.remedy}")
            if option not in _HARMLESS:
                return
            view = view.model_copy(update=_HARMLESS[option])


def broken_mapping_rules(
    views: Sequence[ViewOptions], stores: Sequence[StoreOptions]
) -> Iterator[Broken]:
    """Problems of stores, and between views that are valid by themselves."""
    mappings: Sequence[ViewMapping] = ()
    try:
        mappings = tuple(Mappings(views))
    except MappingProblem as error:
        yield Broken(("l3.view",), str(error))
    try:
        StoreMappings(stores, mappings)
    except MappingProblem as error:
        yield Broken(("l3.store",), str(error))


def _size(value_bytes: int) -> str:
    return toml_text(value_bytes, "size").strip('"')
