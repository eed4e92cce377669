"""No form of connection string lets its password through."""

import pytest

from proxy.masking import mask, mask_option

SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"redis://user:{SECRET}@host:6379/0",
        f"redis://:{SECRET}@host",
        f"rediss://:p@ss{SECRET}@host/0",
        f"redis://:{SECRET}/x@host:6379",
        f"postgresql://u:{SECRET}@h/db?sslmode=require",
        f"postgresql://h/db?user=u&password={SECRET}",
        f"host=h password={SECRET} dbname=d",
        f"host=h PASSWORD = '{SECRET} with spaces' dbname=d",
        f"host=h password='{SECRET}",
        f"host=h password='a\\'{SECRET}' dbname=d",
        f"redis://user:{SECRET}",
        f"redis://:{SECRET}/0",
    ],
)
def test_no_secret_is_left(text: str) -> None:
    assert SECRET not in mask(text)
    assert SECRET not in mask_option(text)


@pytest.mark.parametrize("text", [f"user:{SECRET}@host:6379", f"redis://:{SECRET} x@host"])
def test_an_option_without_a_scheme_or_with_spaces(text: str) -> None:
    assert SECRET not in mask_option(text)
    assert mask_option(text).endswith("host:6379" if "6379" in text else "host")


@pytest.mark.parametrize(
    "text",
    [
        "redis://127.0.0.1:6379/0",
        "redis://[::1]:6379/0",
        "unix:///run/redis.sock?db=1",
        "host=/run/postgresql dbname=app",
        "GET airport:JFK missed",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text
    assert mask_option(text) == text


def test_the_rest_of_a_line_stays() -> None:
    line = f"cannot reach redis://u:{SECRET}@h1:6379/0 (refused); next try in 2s"
    assert mask(line) == "cannot reach redis://***@h1:6379/0 (refused); next try in 2s"
