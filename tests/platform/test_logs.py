"""Logs: one JSON object a line, with the id of the job it belongs to, and never with a secret in it."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE

import pytest

from agentnexus.platform.logs import SECRET_WORDS, correlated, correlation_id

PROGRAM = """
import asyncio, sys
from agentnexus.platform.logs import configure_logs, correlated, log
configure_logs({level!r}, role={role!r})
{body}
"""


async def lines_of(body: str, *, level: str = "INFO", role: str = "worker") -> list[dict[str, object]]:
    """What a process writes to its standard error, line by line; nothing goes to its standard output."""
    program = PROGRAM.format(level=level, role=role, body=body)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert (process.returncode, out) == (0, b"")
    return [json.loads(line) for line in err.splitlines()]


async def test_a_line_is_one_object_with_its_role_level_and_moment() -> None:
    (line,) = await lines_of("log.info('hire.done', seller='Ada', text='two\\nlines', count=3)")
    assert (line["event"], line["seller"], line["text"], line["count"]) == ("hire.done", "Ada", "two\nlines", 3)
    assert (line["role"], line["level"]) == ("worker", "info")
    assert str(line["at"]).endswith("Z")


@pytest.mark.parametrize(
    ("level", "kept"),
    [("DEBUG", 3), ("INFO", 2), ("warning", 1), ("ERROR", 0), ("nonsense", 2)],
)
async def test_what_is_below_the_level_is_not_written(level: str, kept: int) -> None:
    body = "log.debug('a'); log.info('b'); log.warning('c')"
    assert [line["event"] for line in await lines_of(body, level=level)] == ["a", "b", "c"][3 - kept :]


async def test_nothing_that_is_called_a_secret_is_written_whole() -> None:
    names = [f"{word}_of_user" for word in SECRET_WORDS] + [word.upper() for word in SECRET_WORDS]
    given = {name: f"abcd-{name}-hidden" for name in names}
    (line,) = await lines_of(f"log.info('x', **{given!r})")
    assert {line[name] for name in names} == {"abcd…"}
    assert "hidden" not in json.dumps(line)


async def test_what_is_no_text_or_empty_is_left_as_it_is() -> None:
    (line,) = await lines_of("log.info('x', token='', key_count=7, secret=None, payer='0xabcdef')")
    assert (line["token"], line["key_count"], line["secret"], line["payer"]) == ("", 7, None, "0xabcdef")


async def test_an_exception_is_in_the_same_line() -> None:
    body = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('broke')"
    (line,) = await lines_of(body)
    assert line["level"] == "error"
    assert "ZeroDivisionError" in str(line["exception"])


async def test_tasks_of_a_job_write_its_id_and_others_write_theirs() -> None:
    body = """
async def work(name):
    with correlated(name):
        await asyncio.sleep(0)
        await asyncio.gather(part('a'), part('b'))
async def part(name):
    with correlated('not ' + name):
        await asyncio.sleep(0)
        log.info(name)
async def main():
    await asyncio.gather(work('one'), work('two'))
    log.info('outside')
    log.info('named', correlation_id='given')
asyncio.run(main())
"""
    lines = await lines_of(body)
    assert sorted(str(line.get("correlation_id")) for line in lines[:4]) == ["one", "one", "two", "two"]
    assert "correlation_id" not in lines[4]
    assert lines[5]["correlation_id"] == "given"


def test_the_larger_job_keeps_its_id_and_an_end_gives_it_back() -> None:
    with correlated("outer"):
        with correlated("inner"):
            assert correlation_id.get() == "outer"
        assert correlation_id.get() == "outer"
    assert correlation_id.get() == ""


def test_a_job_that_breaks_gives_its_id_back() -> None:
    with pytest.raises(ValueError, match="broken"), correlated("job"):
        raise ValueError("broken")
    assert correlation_id.get() == ""
