"""Flask-Caching with its Redis backend behind Terrace."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.terrace_process import TerraceProcess

flask = pytest.importorskip("flask")
flask_caching = pytest.importorskip("flask_caching")


@pytest.fixture
def site(terrace: TerraceProcess) -> tuple[Any, Any]:
    app = flask.Flask(__name__)
    app.config.update(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=terrace.url,
        CACHE_KEY_PREFIX="flask:",
        CACHE_DEFAULT_TIMEOUT=100,
    )
    cache = flask_caching.Cache(app)
    with app.app_context():
        cache.clear()
    return app, cache


def test_views(site: tuple[Any, Any]) -> None:
    app, cache = site
    calls = []

    @app.route("/page/<name>")
    @cache.cached()
    def page(name: str) -> str:
        calls.append(name)
        return f"page {name}"

    with app.test_client() as client:
        for _ in range(3):
            assert client.get("/page/a").text == "page a"
        assert client.get("/page/b").text == "page b"
        assert calls == ["a", "b"]
        with app.app_context():
            cache.clear()
        client.get("/page/a")
    assert calls == ["a", "b", "a"]


def test_memoized_functions(site: tuple[Any, Any]) -> None:
    app, cache = site
    calls = []

    @cache.memoize()
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    with app.app_context():
        assert [double(n) for n in (1, 1, 2, 2)] == [2, 2, 4, 4]
        cache.delete_memoized(double, 1)
        assert [double(n) for n in (1, 2)] == [2, 4]
        assert calls == [1, 2, 1]
        cache.delete_memoized(double)
        assert double(2) == 4
    assert calls == [1, 2, 1, 2]


def test_values(site: tuple[Any, Any]) -> None:
    app, cache = site
    with app.app_context():
        assert cache.set_many({"a": 1, "b": [2]})
        assert cache.get_many("a", "b", "c") == [1, [2], None]
        assert cache.add("c", {"x": 1})
        assert not cache.add("c", 2)
        assert cache.has("c")
        assert cache.delete_many("a", "b") is not False
        assert cache.get_dict("a", "c") == {"a": None, "c": {"x": 1}}
