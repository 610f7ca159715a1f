"""The page at ``/api/docs``: every route with its fields, drawn here, so that it reads without the internet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from jinja2 import Environment
from starlette.responses import HTMLResponse

Json = Mapping[str, object]
DEPTH = 3  # of objects inside objects that are still told member by member
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
PAGE = Environment(autoescape=True, trim_blocks=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} API</title><style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem } h2 { margin-top: 2.5rem; text-transform: capitalize }
h3 { font: 600 1rem/1.4 ui-monospace, monospace; margin: 1.5rem 0 .25rem; overflow-wrap: anywhere }
p { margin: .25rem 0 }
table { border-collapse: collapse; font-size: .875rem } pre { overflow-x: auto }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #8886; vertical-align: top }
</style></head><body><main><h1>{{ title }} API</h1><p>{{ description }}</p>
<p>Send <code>Authorization: Bearer TOKEN</code>; <code>nexus up</code> keeps the local user's token in
<code>token</code> of its home folder. Errors are <code>{success: false, error: {code, message, next_step}}</code>;
below <code>/workflows</code>, <code>/users</code> and <code>/escrow</code> <code>error</code> is the sentence itself,
with the rest beside it.
For programs: <a href="/openapi.json">openapi.json</a>.</p>
{% for tag, operations in groups.items() %}<h2>{{ tag }}</h2>
{% for one in operations %}<h3>{{ one.method }} {{ one.path }}</h3><p>{{ one.says }}</p>
{% if one.fields %}<table><thead><tr><th scope="col">field<th scope="col">in<th scope="col">kind<th scope="col">meaning
</thead><tbody>
{% for field in one.fields %}<tr><td><code>{{ field.name }}</code>{{ " (needed)" if field.needed }}<td>{{ field.place }}
<td>{{ field.kind }}<td>{{ field.meaning }}{% endfor %}</tbody></table>{% endif %}
{% endfor %}{% endfor %}</main></body></html>
""")


def reference_page(document: Json) -> HTMLResponse:
    """`document` is the OpenAPI description; routes come in its order, grouped by their first tag."""
    schemas = _at(_at(document, "components"), "schemas")
    groups: dict[str, list[Json]] = {}
    for path, operations in _at(document, "paths").items():
        for method, operation in cast("Mapping[str, Json]", operations).items():
            tags = cast("list[str]", operation.get("tags") or ["more"])
            says = operation.get("description") or operation.get("summary") or ""
            fields = [*_parameters(operation, schemas), *_body(operation, schemas)]
            groups.setdefault(tags[0], []).append(
                {"method": method.upper(), "path": path, "says": says, "fields": fields}
            )
    info = _at(document, "info")
    page = PAGE.render(title=info.get("title"), description=info.get("description"), groups=groups)
    return HTMLResponse(page, headers=HEADERS)


def _at(value: Json, name: str) -> Json:
    return cast("Json", value.get(name) or {})


def _parameters(operation: Json, schemas: Json) -> list[Json]:
    given = cast("list[Json]", operation.get("parameters") or [])
    return [
        _field(str(one["name"]), str(one["in"]), {**_at(one, "schema"), **one}, bool(one.get("required")), schemas)
        for one in given
    ]


def _body(operation: Json, schemas: Json) -> list[Json]:
    """The members of a request's body, whatever its media type."""
    for content in _at(_at(operation, "requestBody"), "content").values():
        return _members(_at(cast("Json", content), "schema"), schemas, "")
    return []


def _members(schema: Json, schemas: Json, prefix: str) -> list[Json]:
    """Of an object, and of the objects inside it: ``calls[].to``."""
    schema = _at(schemas, _name(schema)) if "$ref" in schema else schema
    needed = cast("list[str]", schema.get("required") or [])
    found: list[Json] = []
    for name, member in cast("Mapping[str, Json]", _at(schema, "properties")).items():
        found.append(_field(prefix + name, "body", member, name in needed, schemas))
        items = _at(member, "items")
        inner = items or member
        if "$ref" in inner and prefix.count(".") < DEPTH:
            found += _members(inner, schemas, f"{prefix}{name}{'[]' if items else ''}.")
    return found


def _field(name: str, place: str, schema: Json, needed: bool, schemas: Json) -> Json:
    meaning = str(schema.get("description") or "")
    if "default" in schema and schema["default"] not in ("", None):
        meaning = f"{meaning} (default {schema['default']})".strip()
    return {"name": name, "place": place, "kind": _kind(schema, schemas), "needed": needed, "meaning": meaning}


def _name(schema: Json) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _kind(schema: Json, schemas: Json) -> str:
    """``text``, ``list of object``, ``integer or text``, ``one of a, b`` …"""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one, schemas) for one in cast("list[Json]", schema["anyOf"])))
    if "$ref" in schema:
        return _kind(_at(schemas, _name(schema)), schemas)
    if "enum" in schema:
        return "one of " + ", ".join(str(one) for one in cast("list[object]", schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(_at(schema, 'items'), schemas)}"
    return {"string": "text", "null": "nothing"}.get(str(schema.get("type")), str(schema.get("type", "anything")))
