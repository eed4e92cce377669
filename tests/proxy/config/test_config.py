"""What a configuration may say, and what is said about one that is wrong."""

import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import model as config
from proxy.config import rules as config_rules
from proxy.config.load import ConfigError, load
from proxy.config.model import Config
from proxy.config.option_table import Row, item_rows, table


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes terrace.toml into the current directory, so that messages name it shortly."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        path = Path("terrace.toml")
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


def complaints(
    path: Path | None = None, env: dict[str, str] | None = None, flags: Sequence[str] = ()
) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(path, env or {}, flags)
    lines = str(raised.value).splitlines()
    assert len(lines) == len(raised.value.problems), "one line per problem"
    return lines


class TestSources:
    def test_nothing_said_means_the_defaults(self) -> None:
        assert load(None, {}) == Config()

    def test_later_sources_win(self, file: Callable[[str], Path]) -> None:
        path = file("[listen]\nport = 1\nbacklog = 1\nmax_clients = 1\n")
        env = {"TERRACE_LISTEN__BACKLOG": "2", "TERRACE_LISTEN__MAX_CLIENTS": "2", "HOME": "/"}
        listen = load(path, env, ["listen.max_clients=3"]).listen
        assert (listen.port, listen.backlog, listen.max_clients) == (1, 2, 3)

    def test_a_later_source_mends_what_an_earlier_one_broke(
        self, file: Callable[[str], Path]
    ) -> None:
        path = file("[l1]\nmax_bytes = 'lots'\n")
        assert load(path, {"TERRACE_L1__MAX_BYTES": "64MiB"}).l1.max_bytes == 64 * 1024**2

    def test_units(self) -> None:
        config = load(None, {"TERRACE_L1__MAX_STALENESS": "20ms"}, ["l1.max_bytes=1GB"])
        assert config.l1.max_staleness_s == 0.02
        assert config.l1.max_bytes == 10**9

    @pytest.mark.parametrize(("text", "value"), [("false", False), ("1", True), ("off", False)])
    def test_booleans_from_the_environment(self, text: str, value: bool) -> None:
        assert load(None, {"TERRACE_L1__ENABLED": text}).l1.enabled is value

    def test_tables_from_the_environment_are_json_and_replace_those_of_the_file(
        self, file: Callable[[str], Path]
    ) -> None:
        path = file('[l3]\ndsn = "dbname=x"\n[[l3.view]]\nkeys = "a:{b}"\nview = "v"\n')
        views = [{"keys": "c:{d}", "view": "w", "key": {"d": "id"}, "ttl": "1m"}]
        (view,) = load(path, {"TERRACE_L3__VIEW": json.dumps(views)}).l3.view
        assert (view.keys, view.key, view.ttl_s) == ("c:{d}", {"d": "id"}, 60.0)

    def test_a_text_option_keeps_text_that_looks_like_a_number(self) -> None:
        assert load(None, {"TERRACE_LISTEN__PASSWORD": "0123"}).listen.password == "0123"

    def test_a_value_may_hold_an_equals_sign(self) -> None:
        assert load(None, {}, ["l3.dsn=host=h dbname=d"]).l3.dsn == "host=h dbname=d"

    def test_what_kubernetes_and_the_tools_set_is_no_option(self) -> None:
        env = {
            "TERRACE_PORT": "tcp://10.0.0.7:7379",
            "TERRACE_SERVICE_HOST": "10.0.0.7",
            "TERRACE_SERVICE_PORT": "7379",
            "TERRACE_SERVICE_PORT_REDIS": "7379",
            "TERRACE_PORT_7379_TCP": "tcp://10.0.0.7:7379",
            "TERRACE_PORT_7379_TCP_ADDR": "10.0.0.7",
            "TERRACE_ADMIN_PORT": "tcp://10.0.0.8:7380",
            "TERRACE_CORE": "py",
            "TERRACE_EMBEDDED_REDIS": "/usr/bin/redis-server",
        }
        assert load(None, env) == Config()

    def test_the_password_is_not_in_the_repr(self) -> None:
        assert "hunter2" not in repr(load(None, {"TERRACE_LISTEN__PASSWORD": "hunter2"}))


class TestPlaces:
    def test_file_and_line(self, file: Callable[[str], Path]) -> None:
        path = file(
            """\
            [listen]
            port = 70000

            [l3]
            dsn = "dbname=x"
            [[l3.view]]
            keys = "a:{b}"
            view = "v"

            [[l3.view]]
            keys = "c:{d}"
            view = "w"
            ttl = "0s"
            key = { d = 1 }
            """
        )
        assert complaints(path) == [
            "terrace.toml:2: listen.port = 70000: must be at most 65535",
            'terrace.toml:13: l3.view[1].ttl = "0s": must be above 0s',
            "terrace.toml:14: l3.view[1].key.d = 1: a table of text is needed",
        ]

    def test_a_missing_option_is_placed_at_its_table(self, file: Callable[[str], Path]) -> None:
        (line,) = complaints(file('[l3]\ndsn = "dbname=x"\n\n[[l3.view]]\nview = "v"\n'))
        assert line.startswith("terrace.toml:4: l3.view[0].keys: is required")

    def test_environment_and_flag(self) -> None:
        assert complaints(None, {"TERRACE_L1__MAX_BYTES": "lots"}, ["workers=none"]) == [
            'environment TERRACE_L1__MAX_BYTES: l1.max_bytes = "lots": '
            "a size like 64KiB, 256MiB or 1GB is needed",
            'flag --set: workers = "none": a whole number is needed',
        ]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("[listen]\nport = = 1\n", ":2: is not TOML: invalid value"),
            ("[listen]\nport = 1\nport = 2\n", ":3: is not TOML: cannot overwrite a value"),
            ("[listen\n", ":1: is not TOML: "),
            ("a = [1,\n", ":1: is not TOML: "),
            ("[l1]\nmax_bytes = " + "9" * 5000, ": is not TOML: "),
        ],
    )
    def test_syntax(self, file: Callable[[str], Path], text: str, line: str) -> None:
        (complaint,) = complaints(file(text))
        assert complaint.startswith(f"terrace.toml{line}")

    def test_nesting_without_end(self, file: Callable[[str], Path]) -> None:
        (complaint,) = complaints(file("a = " + "[" * 100_000))
        assert "nested too deeply" in complaint

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "latin1.toml"
        path.write_bytes(b"# fine\n# caf\xe9\n")
        assert complaints(path) == [f"{path}:2: is not UTF-8 text; save the file as UTF-8"]

    def test_no_file(self, tmp_path: Path) -> None:
        (missing,) = complaints(tmp_path / "no.toml")
        (directory,) = complaints(tmp_path)
        assert missing.endswith("cannot be read: No such file or directory; check --config")
        assert directory.endswith("cannot be read: Is a directory; check --config")


class TestNames:
    @pytest.mark.parametrize(
        ("text", "near"),
        [
            ("[listen]\nprt = 1\n", "listen.prt: unknown option; did you mean listen.port?"),
            ("[listn]\nport = 1\n", "listn: unknown option; did you mean listen?"),
            ("[l1]\nmax_age_s = 1\n", "l1.max_age_s: unknown option; did you mean l1.max_age?"),
            ("max_clients = 1\n", "unknown option; did you mean listen.max_clients?"),
            ("zzz = 1\n", "zzz: unknown option; `terrace serve --help` lists all options"),
            ("listen = 7379\n", "listen: is a group of options; write it as a table, [listen]"),
        ],
    )
    def test_in_a_file(self, file: Callable[[str], Path], text: str, near: str) -> None:
        (line,) = complaints(file(text))
        assert line.endswith(near)

    def test_in_a_view(self, file: Callable[[str], Path]) -> None:
        path = file('[l3]\ndsn="a=b"\n[[l3.view]]\nkeys="a:{b}"\nview="v"\nrefesh="1s"\n')
        assert complaints(path) == [
            "terrace.toml:6: l3.view[0].refesh: unknown option; did you mean refresh?"
        ]

    @pytest.mark.parametrize(
        "name", ["TERRACE_LISTEN_PORT", "TERRACE_LISTEN__PROT", "TERRACE_PORT"]
    )
    def test_in_the_environment(self, name: str) -> None:
        (line,) = complaints(None, {name: "7379"})
        assert line.startswith(f"environment {name}: unknown option; did you mean TERRACE_")

    def test_in_flags(self) -> None:
        assert complaints(None, {}, ["l1.max_byte=1", "l1.max_bytes"]) == [
            "flag --set: l1.max_byte: unknown option; did you mean l1.max_bytes?",
            "flag --set: path=value is needed, as in --set l1.max_bytes=64MiB",
        ]


class TestValues:
    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("port = true", "listen.port = true: a whole number is needed"),
            ('port = "many"', 'listen.port = "many": a whole number is needed'),
            ("port = 1.5", "listen.port = 1.5: a whole number is needed"),
            ("port = []", "listen.port = […]: a whole number is needed"),
            ("port = 0x" + "f" * 9000, "listen.port = a huge number: must be at most 65535"),
            ("port = 1979-05-27", "listen.port = 1979-05-27: a whole number is needed"),
            ("protected_mode = 'perhaps'", '= "perhaps": true or false is needed'),
            ("host = 127", "listen.host = 127: text in quotes is needed"),
            ('host = ""', 'listen.host = "": must not be empty'),
            ("idle_timeout = -1", "listen.idle_timeout = -1: must be at least 0s"),
            ("idle_timeout = inf", "listen.idle_timeout = inf: must be at most 36500d"),
            ("idle_timeout = nan", "listen.idle_timeout = nan: must be at least 0s"),
            ("idle_timeout = true", "a duration like 50ms, 5s, 10m, 1h or 1d is needed"),
            ("idle_timeout = '3 parsecs'", "a duration like 50ms, 5s, 10m, 1h or 1d is needed"),
        ],
    )
    def test_wrong_ones(self, file: Callable[[str], Path], text: str, what: str) -> None:
        (line,) = complaints(file(f"[listen]\n{text}\n"))
        assert line.startswith("terrace.toml:2: listen.")
        assert line.endswith(what)

    def test_choices_are_listed(self) -> None:
        (line,) = complaints(None, {"TERRACE_LOG__FORMAT": "xml"})
        assert line.endswith('log.format = "xml": one of "text", "json" is needed')

    @pytest.mark.parametrize("text", ["{", "[" * 100_000, "", "[{]"])
    def test_a_table_that_is_not_json(self, text: str) -> None:
        (line,) = complaints(None, {"TERRACE_L3__VIEW": text})
        assert line.endswith("l3.view: is not JSON; write the array of tables as JSON")

    @pytest.mark.parametrize("text", ["[1]", "3", '{"keys": "a"}', "null"])
    def test_json_of_another_form(self, text: str) -> None:
        (line,) = complaints(None, {"TERRACE_L3__VIEW": text, "TERRACE_L3__DSN": "dbname=x"})
        assert "needed" in line

    def test_a_long_value_is_cut_and_stays_one_line(self) -> None:
        (line,) = complaints(None, {"TERRACE_LOG__LEVEL": "a\nb" * 10_000})
        assert len(line) < 250

    @given(st.text(min_size=1).filter(lambda text: "\0" not in text))
    def test_no_text_breaks_the_loader(self, text: str) -> None:
        env = {row.env: text for row in table(Config).values()} | {f"TERRACE_{text}": text}
        assert complaints(None, env) != []


class TestSecrets:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("TERRACE_L2__URL", "http://u:hunter2@h"),
            ("TERRACE_L2__URL", "u:hunter2@h:6379"),
            ("TERRACE_L2__URL", "redis://:hunter2@h:port"),
            ("TERRACE_L2__URL", "redis://u:hunter2"),
            ("TERRACE_L3__DSN", "mysql://u:hunter2@h/db"),
            ("TERRACE_LISTEN__PASWORD", "hunter2"),
        ],
    )
    def test_they_are_never_shown(self, name: str, value: str) -> None:
        assert "hunter2" not in "".join(complaints(None, {name: value}))

    def test_a_password_of_the_wrong_type(self, file: Callable[[str], Path]) -> None:
        (line,) = complaints(file("[listen]\npassword = 271828\n"))
        assert line == "terrace.toml:2: listen.password = ***: text in quotes is needed"


VIEW = {"keys": "a:{b}", "view": "v"}


class TestRules:
    @pytest.mark.parametrize(
        ("flags", "about", "mend"),
        [
            (["admin.port=7379"], "admin.port", "another port"),
            (["admin.port=7379", "admin.host=0.0.0.0"], "admin.port", "another port"),
            (["listen.port=7380"], "listen.port", "another port"),
            (["limits.bulk_bytes=256MiB"], "limits.bulk_bytes", "lower limits.bulk_bytes"),
            (["limits.query_buffer_bytes=1MiB"], "limits.query_buffer_bytes", "raise"),
            (["limits.output_buffer_bytes=1MiB"], "limits.output_buffer_bytes", "raise"),
            (["l1.max_bytes=1MiB", "l1.max_value_bytes=1MiB"], "l1.max_value_bytes", "lower"),
            (["l1.max_bytes=900000GiB"], "l1.max_bytes", "MiB of memory of this"),
            (["l2.url=localhost:6379"], "l2.url", "write redis://"),
            (["l2.url=redis://"], "l2.url", "write redis://"),
            (["l2.url=redis://h:99999"], "l2.url", "write redis://"),
            (["l2.url=redis://[::1"], "l2.url", "write redis://"),
            (["l2.url=redis://h/one"], "l2.url", "write redis://"),
            (["l2.url=unix://"], "l2.url", "write redis://"),
            (["l2.url=redis://h/3"], "l2.url", "each client selects its own"),
            (["l2.url=redis://h?db=3"], "l2.url", "no parameters"),
            (["l2.url=redis://h/0?x"], "l2.url", "no parameters"),
            (["l2.url=redis://h/0#3"], "l2.url", "no parameters"),
            (["l2.url=unix:///run/redis.sock?db=1"], "l2.url", "each client selects its own"),
            (["l2.url=redis://:6379"], "l2.url", "the host or port is missing"),
            (["l2.url= redis://h"], "l2.url", "white space around it"),
            (["l2.url=redis://h\n"], "l2.url", "white space around it"),
            (["l2.url=redis://h h"], "l2.url", "cannot be read"),
            (["l2.url=redis://127.0.0.1:7379"], "l2.url", "is the address of this Terrace"),
            (
                ["l2.url=unix:///a", "listen.unix_socket=/a"],
                "l2.url",
                "is the address of this Terrace",
            ),
            (["listen.handover=/a", "listen.unix_socket=/a"], "listen.handover", "another path"),
            ([f"listen.handover=/{'a' * 99}"], "listen.handover", "this socket is 99"),
            (["l2.backoff_min=1s"], "l2.backoff_min", "swap them"),
            (["l2.backoff_max=1ms"], "l2.backoff_max", "swap them"),
            (["l2.max_pinned=1"], "l2.max_pinned", "lower l2.max_idle_pinned"),
            (["l3.dsn=mysql://h/db"], "l3.dsn", "write postgresql://"),
            (["l3.dsn=mydatabase"], "l3.dsn", "write postgresql://"),
            ([f"l3.view={json.dumps([VIEW])}"], "l3.view", "set l3.dsn"),
            ([f"l3.view={json.dumps([VIEW, VIEW])}", "l3.dsn=a=b"], "l3.view", "mapped twice"),
            (
                [
                    f"l3.view={json.dumps([VIEW | {'keys': f'v{n}:{{id}}'} for n in range(1025)])}",
                    "l3.dsn=a=b",
                ],
                "l3.view",
                "map fewer",
            ),
        ],
    )
    def test_one_at_a_time(self, flags: list[str], about: str, mend: str) -> None:
        (line,) = complaints(None, {}, flags)
        assert line.startswith(f"flag --set: {about} = ")
        assert mend in line

    def test_several_workers_need_the_compiled_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(config_rules, "CORE", "py")
        (line,) = complaints(None, {}, ["workers=2"])
        assert line.startswith("flag --set: workers = ")
        assert "set workers = 1" in line
        monkeypatch.setattr(config_rules, "CORE", "c")
        assert load(None, {}, ["workers=2"]).workers == 2

    @pytest.mark.parametrize(
        ("core", "cores", "workers"), [("c", 3, 3), ("c", 999, 255), ("py", 3, 1)]
    )
    def test_one_worker_per_core(
        self, monkeypatch: pytest.MonkeyPatch, core: str, cores: int, workers: int
    ) -> None:
        monkeypatch.setattr(config, "host_cores", lambda: cores)
        for module in (config, config_rules):
            monkeypatch.setattr(module, "CORE", core)
        assert load(None, {}, ["workers=auto"]).workers == workers

    @pytest.mark.parametrize(
        "flags",
        [
            ["admin.port=7379", "admin.enabled=false"],
            ["admin.port=7379", "admin.host=127.0.0.2"],
            ["listen.port=0", "admin.port=0"],
            ["l1.max_bytes=1MiB"],
            ["l1.max_bytes=900000GiB", "l1.enabled=false"],
            ["l1.max_bytes=1MiB", "l1.max_value_bytes=1MiB", "l1.enabled=false"],
            ["l2.url=rediss://u:p%40@[::1]:6380/0"],
            ["l2.url=unix:///run/redis.sock?db=0"],
            ["l3.dsn=postgresql:///app"],
            ["l3.dsn=host=/run/postgresql password=a://b"],
        ],
    )
    def test_what_is_allowed(self, flags: list[str]) -> None:
        assert load(None, {}, flags) != Config()

    def test_all_problems_of_one_view_and_of_the_next(self, file: Callable[[str], Path]) -> None:
        path = file(
            """\
            [l3]
            dsn = "dbname=x"
            [[l3.view]]
            keys = "a:{b"
            view = "v"
            reply = "xml"
            refresh = "often"
            [[l3.view]]
            keys = "c:{d}"
            view = "a.b.c"
            key = { x = "y" }
            """
        )
        assert [line.partition(" = ")[0] for line in complaints(path)] == [
            "terrace.toml:4: l3.view[0].keys",
            "terrace.toml:6: l3.view[0].reply",
            "terrace.toml:7: l3.view[0].refresh",
            "terrace.toml:10: l3.view[1].view",
            "terrace.toml:11: l3.view[1].key",
        ]

    def test_a_rule_about_a_wrong_value_is_not_held_against_it(self) -> None:
        flags = ["l2.backoff_min=never", "l2.backoff_max=1ms", "l1.max_age=0s"]
        assert [line.partition(" = ")[0] for line in complaints(None, {}, flags)] == [
            "flag --set: l1.max_age",
            "flag --set: l2.backoff_min",
        ]

    def test_everything_at_once_in_the_order_of_reading(self, file: Callable[[str], Path]) -> None:
        path = file("workers = 0\n[l1]\nmax_byte = 1\nmax_age = 0\n[l2]\nurl = 'x'\n")
        lines = complaints(path, {"TERRACE_LOG__LEVEL": "loud"}, ["listen.port=-1"])
        assert [line.partition(": ")[0] for line in lines] == [
            "terrace.toml:1",
            "terrace.toml:3",
            "terrace.toml:4",
            "terrace.toml:6",
            "environment TERRACE_LOG__LEVEL",
            "flag --set",
        ]


def _plain_rows() -> list[Row]:
    return [row for row in table(Config).values() if row.kind not in ("map", "rows")]


@pytest.mark.parametrize("row", _plain_rows(), ids=lambda row: row.path)
def test_every_option_can_be_set_from_everywhere(row: Row, file: Callable[[str], Path]) -> None:
    group, _, name = row.path.rpartition(".")
    path = file(f"[{group}]\n{name} = {row.default_text}\n" if group else f"{name} = {row.default}")
    text = row.default_text.strip('"')
    assert load(path, {}) == load(None, {row.env: text}) == load(None, {}, [f"{row.path}={text}"])
    assert load(path, {}) == Config()


def test_the_rows_of_a_view_are_found() -> None:
    rows = item_rows(table(Config)["l3.view"])
    assert rows["l3.view[].keys"].required
    assert rows["l3.view[].negative_ttl"].default_text == '"5s"'
