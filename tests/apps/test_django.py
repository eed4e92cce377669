"""Django's Redis cache, and sessions that live in it, behind Terrace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.polling import wait_until
from tests.e2e.redis_process import RedisProcess
from tests.e2e.terrace_process import TerraceProcess

django = pytest.importorskip("django")


@pytest.fixture(scope="module")
def configured(terrace: TerraceProcess) -> None:
    from django.conf import settings

    settings.configure(
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": terrace.url,
                "KEY_PREFIX": "site",
            }
        },
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.sessions"],
        SECRET_KEY="of the tests",
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@pytest.fixture
def cache(configured: None) -> Iterator[Any]:
    from django.core.cache import cache

    cache.clear()
    yield cache
    cache.close()


def test_values(cache: Any) -> None:
    for value in ("text", 42, 1.5, None, [1, {"a": (2,)}], b"\x00\xff", "x" * 1_000_000):
        cache.set("key", value)
        assert [cache.get("key", "absent") for _ in range(3)] == [value] * 3
    assert cache.get("other", "absent") == "absent"
    assert cache.has_key("key")
    assert cache.delete("key")
    assert not cache.delete("key")
    assert cache.add("key", 1)
    assert not cache.add("key", 2)
    assert cache.get_or_set("computed", lambda: 7) == 7
    assert cache.get_or_set("computed", lambda: 8) == 7


def test_many(cache: Any) -> None:
    values = {f"k{n}": n for n in range(50)}
    assert cache.set_many(values, timeout=100) == []
    assert cache.get_many([*values, "absent"]) == values
    cache.delete_many([f"k{n}" for n in range(25)])
    assert len(cache.get_many(values)) == 25


def test_counters(cache: Any) -> None:
    cache.set("n", 1)
    assert cache.incr("n") == 2
    assert cache.incr("n", 10) == 12
    assert cache.decr("n", 2) == 10
    assert cache.get("n") == 10
    with pytest.raises(ValueError, match="absent"):
        cache.incr("absent")


def test_timeouts(cache: Any) -> None:
    cache.set("short", 1, timeout=0.05)
    cache.set("none", 1, timeout=0)
    cache.set("ever", 1, timeout=None)
    assert cache.get("none") is None
    wait_until(lambda: cache.get("short") is None, "it expired")
    cache.set("touched", 1, timeout=1000)
    assert cache.touch("touched", 0.05)
    wait_until(lambda: cache.get("touched") is None, "it expired as touched")
    assert not cache.touch("absent")
    assert cache.get("ever") == 1


def test_versions(cache: Any) -> None:
    cache.set("v", "one", version=1)
    cache.set("v", "two", version=2)
    assert (cache.get("v"), cache.get("v", version=2)) == ("one", "two")
    cache.incr_version("v", delta=2)
    assert (cache.get("v"), cache.get("v", version=3)) == (None, "one")


@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_sessions(cache: Any, engine: str) -> None:
    from importlib import import_module

    store = import_module(f"django.contrib.sessions.backends.{engine}").SessionStore
    session = store()
    session["user"] = {"id": 7, "roles": ["a"]}
    session.save()
    again = store(session.session_key)
    assert again["user"] == {"id": 7, "roles": ["a"]}
    again["user"] = 8
    again.save()
    assert [store(session.session_key)["user"] for _ in range(3)] == [8] * 3
    key = session.session_key
    again.cycle_key()
    assert store(again.session_key)["user"] == 8
    assert not store().exists(key)
    again.flush()
    assert not store().exists(again.session_key)


def test_redis_is_restarted(cache: Any, redis: RedisProcess) -> None:
    """What was acknowledged is there again; in between a value that L1 knows still is."""
    cache.set("kept", 1, timeout=None)
    assert cache.get("kept") == 1
    redis.kill()
    assert cache.get("kept") == 1
    redis.start()

    def writable() -> bool:
        import redis as redis_py

        try:
            cache.set("after", 2)
        except redis_py.RedisError:
            return False
        return True

    wait_until(writable, "Redis is back")
    assert cache.get("kept") == 1
    assert cache.get("after") == 2
