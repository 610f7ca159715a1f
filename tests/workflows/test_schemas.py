"""Schemas are written by strangers: none may hang a planner, fetch an address, or take a good seller down with it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from agentnexus.workflows.schemas import BRANCHES_MAX, at_path, branches, problems

DOUBLING: dict[str, object] = {
    "$ref": "#/$defs/d0",
    "$defs": {
        **{f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(40)},
        "d40": {"type": "string"},
    },
}
SELF: dict[str, object] = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and which paths it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_schema_that_doubles_at_every_reference_is_read_once() -> None:
    assert branches(DOUBLING, DOUBLING) == [{"type": "string"}]


def test_a_schema_that_is_only_itself_means_nothing() -> None:
    assert branches(SELF, SELF) == []
    assert at_path(SELF, ["a"]) == []
    assert list(problems({"a": 1}, SELF, {})) == []


def test_alternatives_are_found_in_order_and_bounded() -> None:
    schema = {"oneOf": [{"type": "null"}, {"anyOf": [{"const": 1}, {"const": 2}]}, {"const": 3}]}
    assert [option["const"] for option in branches(schema, schema)] == [1, 2, 3]
    many = {"anyOf": [{"const": number} for number in range(10_000)]}
    assert len(branches(many, many)) == BRANCHES_MAX
    wide = {"anyOf": [{"properties": {"a": {"$ref": "#"}}} for _ in range(30)]}
    assert len(at_path(wide, ["a"] * 20)) <= BRANCHES_MAX


def test_a_pattern_that_backtracks_is_matched_in_linear_time() -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string", "pattern": "^(a+)+$"}}}
    (problem,) = problems({"text": "a" * 5000 + "!"}, schema, {})
    assert problem.startswith("input.text: ")


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$schema", "$id"])
def test_no_address_in_a_schema_is_fetched(asked: tuple[str, list[str]], keyword: str) -> None:
    url, paths = asked
    schema = {"type": "object", "properties": {"text": {keyword: f"{url}/schema.json", "type": "string"}}}
    assert list(problems({"text": "a"}, schema, {})) == []
    assert paths == []
