"""Keys are found where they were written, whatever stands around them."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from proxy.config.toml_lines import locate

DOCUMENT = '''\
# a comment with = and [brackets]
top = 1

[listen]   # trailing
host = "a # no comment [l2]"
port = 7379

[l3]
dsn = """
[not.a.table]
key = "value"
"""
"quoted key" = 'x'
a.dotted."na.me" = [
  1, # with a comment ]
  "]",
]

[[l3.view]]
keys = "one"
[l3.view.key]
iata = "code"

[[l3.view]]
keys = { inline = 1, table = "}" }
'''


def test_every_kind_of_statement_is_located() -> None:
    assert locate(DOCUMENT) == {
        ("top",): 2,
        ("listen",): 4,
        ("listen", "host"): 5,
        ("listen", "port"): 6,
        ("l3",): 8,
        ("l3", "dsn"): 9,
        ("l3", "quoted key"): 13,
        ("l3", "a", "dotted", "na.me"): 14,
        ("l3", "view", 0): 19,
        ("l3", "view", 0, "keys"): 20,
        ("l3", "view", 0, "key"): 21,
        ("l3", "view", 0, "key", "iata"): 22,
        ("l3", "view", 1): 24,
        ("l3", "view", 1, "keys"): 25,
    }


def test_windows_line_ends_and_a_missing_last_one() -> None:
    assert locate("a = 1\r\n[t]\r\nb = 2") == {("a",): 1, ("t",): 2, ("t", "b"): 3}


def test_quotes_at_the_end_of_a_multi_line_string() -> None:
    text = 'a = """x"""""\nb = """\\""""\nc = \'\'\'\n\'\'\'\'\'\nd = 1\n'
    assert set(tomllib.loads(text)) == {"a", "b", "c", "d"}
    assert locate(text) == {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 5}


VALUES = st.sampled_from(
    [
        '"[x]"',
        "'#'",
        '"""\n[x]\n"""',
        "'''\na = 1\n'''",
        "[\n1,\n[2], # ]\n]",
        "{ a = 1 }",
        "1.5",
        '"\\""',
    ]
)
NOISE = st.sampled_from(["", "\n", "# c = [ \" '\n", "\n   \t\n"])


@given(st.lists(st.tuples(NOISE, VALUES), max_size=12))
def test_a_document_of_any_statements(statements: list[tuple[str, str]]) -> None:
    text, expected = "", {}
    for i, (noise, value) in enumerate(statements):
        text += noise
        expected[(f"k{i}",)] = text.count("\n") + 1
        text += f"k{i} = {value}\n"
    assert len(tomllib.loads(text)) == len(expected)
    assert locate(text) == expected
