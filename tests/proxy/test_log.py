"""A record is one bounded line without secrets, in both formats."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from proxy import log
from proxy.config.model import LogOptions


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, log.LOGGER, "psycopg.pool")]
    handlers, levels = loggers[0].handlers[:], [logger.level for logger in loggers]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def lines_of(options: LogOptions, *records: tuple[object, ...]) -> list[str]:
    stream = io.StringIO()
    log.set_up(options, stream)
    for level, message, *args in records:
        logging.getLogger("terrace.test").log(level, message, *args)
    return stream.getvalue().splitlines()


HOSTILE = "key\n2026-01-01 forged line\x1b[31m\x00\u2028redis://u:hunter2@h \udcff"


@pytest.mark.parametrize("form", ["text", "json"])
def test_hostile_text_stays_one_line_without_the_secret(form: str) -> None:
    (line,) = lines_of(LogOptions(format=form), (logging.INFO, "got %s", HOSTILE))
    assert "hunter2" not in line
    assert line.isprintable()
    assert "\\n2026-01-01 forged line" in line.replace("\\\\", "\\")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("character", ["x", '"', "é"])
def test_lines_are_bounded(form: str, character: str) -> None:
    (line,) = lines_of(LogOptions(format=form), (logging.INFO, character * 1_000_000))
    assert len(line) <= log.MAX_LINE_CHARS + 200
    assert "…" in line


def test_json_lines_parse() -> None:
    lines = lines_of(
        LogOptions(format="json"), (logging.ERROR, HOSTILE), (logging.INFO, '"' * 9000)
    )
    first, second = map(json.loads, lines)
    assert first["level"] == "error"
    assert first["logger"] == "terrace.test"
    assert first["time"].endswith("Z")
    assert second["message"].startswith('"')


def test_the_level_is_the_least_that_is_written() -> None:
    records = [(level, "m") for level in (logging.DEBUG, logging.INFO, logging.WARNING)]
    assert len(lines_of(LogOptions(level="warning"), *records)) == 1
    assert len(lines_of(LogOptions(level="debug"), *records)) == 3


def test_an_exception_is_part_of_the_line() -> None:
    stream = io.StringIO()
    log.set_up(LogOptions(), stream)
    try:
        int("no\nnumber")
    except ValueError:
        logging.getLogger("terrace.x").exception("task failed")
    (line,) = stream.getvalue().splitlines()
    assert "task failed | ValueError: invalid literal" in line
    assert "test_an_exception_is_part_of_the_line test_log.py:" in line


def test_a_record_whose_arguments_do_not_fit_is_still_written() -> None:
    (line,) = lines_of(LogOptions(), (logging.INFO, "%d items", "many"))
    assert "%d items" in line
    assert "many" in line
