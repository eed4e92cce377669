"""Key patterns: what they match, what they refuse, and that parse and format are inverses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.errors import MappingProblem
from tiers.options import ViewOptions
from tiers.pg.types import KEY_TYPES, SEPARATOR
from tiers.views import MAX_KEY_BYTES, Mappings, ViewMapping


def mapping(keys: str, view: str = "v", **options: object) -> ViewMapping:
    return ViewMapping(ViewOptions.model_validate({"keys": keys, "view": view, **options}))


@pytest.mark.parametrize(
    ("pattern", "key", "values"),
    [
        ("airport:{iata}", b"airport:JFK", ("JFK",)),
        ("airport:{iata}", b"airport:a:b\n{}", ("a:b\n{}",)),
        ("airport:{iata}", b"airport:", None),
        ("airport:{iata}", b"Airport:JFK", None),
        ("airport:{iata}", b"airport:\xc3\xa9", ("é",)),
        ("airport:{iata}", b"airport:\xff", None),
        ("airport:{iata}", b"airport:a\0b", None),
        ("airport:{iata}", b"airport:" + b"x" * MAX_KEY_BYTES, None),
        ("u:{id}:name", b"u:7:name", ("7",)),
        ("u:{id}:name", b"u:7:name:name", None),
        ("u:{id}:name", b"u:7:nam", None),
        ("o:{a}:{b}", b"o:1:2", ("1", "2")),
        ("o:{a}:{b}", b"o:1:2:3", ("1", "2:3")),
        ("o:{a}--{b}!", b"o:1-2--3!", ("1-2", "3")),
        ("{{u:{id}}}", b"{u:7}", ("7",)),
    ],
)
def test_parse(pattern: str, key: bytes, values: tuple[str, ...] | None) -> None:
    view = mapping(pattern)
    assert view.parse(key) == values
    if values is not None:
        assert view.format(values) == key
        assert view.key_of(values) == key


@pytest.mark.parametrize("pattern", ["a:{x}", "a:{x}:{y}", "a:{x}::{y}:z", "a:{x}aa"])
@given(data=st.data())
def test_every_key_leads_back_to_its_row(pattern: str, data: st.DataObject) -> None:
    """What `key_of` calls a key reads back as the same values; what it refuses would not."""
    view = mapping(pattern)
    text = st.text(st.sampled_from(":az\n") | st.characters(codec="utf-8"), max_size=6)
    values = tuple(data.draw(text) for _ in view.fields)
    key = view.key_of(values)
    assert key is None or view.parse(key) == values
    if key is None:
        assert view.parse(view.format(values)) != values


@given(st.binary(max_size=40))
def test_any_bytes_are_parsed_without_raising(rest: bytes) -> None:
    view = mapping("a:{x}:{y}")
    for key in (rest, b"a:" + rest):
        values = view.parse(key)
        assert values is None or view.format(values) == key


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keys": "airport"}, "no field"),
        ({"keys": "{iata}"}, "before the first field"),
        ({"keys": "a:{x}{y}"}, "between two fields"),
        ({"keys": "a:{x}:{x}"}, "occurs twice"),
        ({"keys": "a:{x"}, "'}'"),
        ({"keys": "a:{x!r}"}, "not a field name"),
        ({"keys": "a:{}"}, "not a field name"),
        ({"keys": "a:{x}", "key": {"z": "c"}}, "not in keys"),
        ({"keys": "a:{x}:{y}", "key": {"x": "c", "y": "c"}}, "same key column"),
        ({"keys": "a:{x}", "reply": "xml"}, '"string:<column>"'),
        ({"keys": "a:{x}", "reply": "string:"}, '"string:<column>"'),
        ({"keys": "a:{x}", "refresh": "often"}, "not a duration"),
        ({"keys": "a:{x}", "refresh": "0s"}, "not a duration"),
        ({"keys": "a:{x}", "view": "a.b.c"}, "not a view name"),
    ],
)
def test_impossible_mappings_name_view_and_mend(options: dict[str, object], says: str) -> None:
    with pytest.raises(MappingProblem) as raised:
        ViewMapping(ViewOptions.model_validate({"view": "cards", **options}))
    assert raised.value.view == options.get("view", "cards")
    assert says in str(raised.value)
    assert raised.value.remedy


def test_options_of_a_mapping() -> None:
    view = mapping("a:{x}:{y}", key={"y": "why"}, reply="string:body", refresh="2m")
    assert view.columns == ("x", "why")
    assert (view.kind, view.value_column, view.refresh_interval_s) == ("string", "body", 120.0)
    assert mapping("a:{x}", reply="hash").kind == "hash"
    assert mapping("a:{x}").refresh_interval_s is None


def test_most_specific_mapping_wins_and_overlap_is_reported() -> None:
    mappings = Mappings(
        [
            ViewOptions(keys="user:{id}", view="users"),
            ViewOptions(keys="user:admin:{id}", view="admins"),
            ViewOptions(keys="order:{id}", view="orders"),
        ]
    )
    expected = {
        b"user:7": "users", b"user:admin:7": "admins", b"user:admin:": "users",
        b"order:1": "orders", b"x:1": None, b"user:": None,
    }  # fmt: skip
    assert {key: m.name if (m := mappings.match(key)) else None for key in expected} == expected
    (problem,) = mappings.problems()
    assert "user:{id}" in problem
    assert "belongs to admins" in problem


def test_mappings_as_a_collection() -> None:
    mappings = Mappings([ViewOptions(keys="a:{x}", view="v")])
    assert (len(mappings), bool(mappings), bool(Mappings([]))) == (1, True, False)
    assert [m.name for m in mappings] == ["v"]
    assert mappings.by_view("v") is next(iter(mappings))
    assert mappings.by_view("w") is None
    assert Mappings([]).match(b"a:1") is None


@pytest.mark.parametrize(("keys", "view"), [("b:{x}", "v"), ("a:{x}", "w")])
def test_one_view_has_one_pattern(keys: str, view: str) -> None:
    with pytest.raises(MappingProblem, match="mapped twice"):
        Mappings([ViewOptions(keys="a:{x}", view="v"), ViewOptions(keys=keys, view=view)])


@pytest.mark.parametrize(
    ("name", "canonical", "others"),
    [
        ("text", ["", "a b ", "é"], []),
        ("bpchar", ["ab", " ab"], ["ab "]),
        ("int2", ["0", "-1", "32767", "-32768"], ["32768", "-0", "+1", "01", " 1", "1.0", "٣", ""]),
        ("int4", ["2147483647"], ["2147483648", "abc", "1" * 5000]),
        ("int8", ["-9223372036854775808"], ["9223372036854775808", "1\n"]),
        ("uuid", ["6e7bd6b8-3b14-4d5c-9a57-3f5b7a5f3c11"],
         ["6E7BD6B8-3b14-4d5c-9a57-3f5b7a5f3c11", "6e7bd6b83b144d5c9a573f5b7a5f3c11", "{}"]),
        ("date", ["2024-02-29", "0001-01-01"],
         ["2023-02-29", "2024-2-1", "infinity", "0000-01-01"]),
    ],
)  # fmt: skip
def test_canonical_key_text(name: str, canonical: list[str], others: list[str]) -> None:
    key_type = KEY_TYPES[name]
    assert [text for text in canonical if not key_type.is_canonical(text)] == []
    assert [text for text in others if key_type.is_canonical(text)] == []
    for text in others:
        assert not key_type.are_canonical(SEPARATOR.join([*canonical, text]))


@pytest.mark.parametrize("name", ["int2", "int4", "int8"])
@given(st.lists(st.one_of(st.integers().map(str), st.text("0123456789-+ \n", max_size=6))))
def test_many_texts_are_canonical_only_if_each_is(name: str, texts: list[str]) -> None:
    key_type = KEY_TYPES[name]
    if key_type.are_canonical(SEPARATOR.join(texts)):
        assert all(map(key_type.is_canonical, texts))


def test_many_usual_numbers_are_known_in_one_go() -> None:
    texts = SEPARATOR.join(map(str, range(-1000, 9999)))
    assert [KEY_TYPES[name].are_canonical(texts) for name in ("int2", "int4", "int8")] == [True] * 3
