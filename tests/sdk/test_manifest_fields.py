"""`agent.toml` field by field: limits at their ends and just beyond, patterns by what fits them and what does not."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agentnexus.sdk.manifest import MANIFEST_NAME, Manifest, ManifestError, PricedEvent, Pricing, manifest_schema

LEAST: dict[str, object] = {
    "name": "org.agentnexus.sample",
    "version": "1.0.0",
    "title": "Sample",
    "summary": "Does a thing.",
    "categories": ["test"],
    "capability": "text.count",
}
ROOT = Path(__file__).parents[2]


def toml(value: object) -> str:
    """A TOML value; JSON's strings, numbers, lists and booleans are TOML's too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def document(**fields: object) -> str:
    """The smallest manifest with these fields, dotted names written with two underscores."""
    lines: dict[str, object] = {**LEAST}
    for name, value in fields.items():
        section, _, field = name.partition("__")
        if field:
            lines[f"{section}.{field}"] = value
        else:
            lines[section] = value
    return "".join(f"{name} = {toml(value)}\n" for name, value in lines.items())


def parsed(**fields: object) -> Manifest:
    return Manifest.parse(document(**fields))


def faults(**fields: object) -> dict[str, str]:
    with pytest.raises(ManifestError) as caught:
        parsed(**fields)
    assert str(caught.value)
    return dict(caught.value.problems)


def test_the_smallest_manifest_has_careful_defaults() -> None:
    manifest = parsed()
    assert manifest.entry == "agent:run"
    assert (manifest.pricing.per_run, manifest.pricing.maximum) == ("0", Decimal(0))
    assert (manifest.egress.hosts, manifest.secrets, manifest.preload) == ((), (), ())
    assert (manifest.limits.memory_mib, manifest.limits.cpu, manifest.limits.timeout_seconds) == (512, 0.5, 300)
    assert manifest.service_level.refund_on == ("failed", "timeout", "schema_mismatch")
    assert manifest.image is None


@pytest.mark.parametrize("field", list(LEAST))
def test_every_required_field_is_missed_by_name(field: str) -> None:
    body = "".join(f"{name} = {toml(value)}\n" for name, value in LEAST.items() if name != field)
    with pytest.raises(ManifestError) as caught:
        Manifest.parse(body)
    assert caught.value.problems == [(field, "Field required")]


@pytest.mark.parametrize(
    "field", ["surprise", "pricing__price", "limits__memory", "egress__host", "service_level__sla"]
)
def test_a_field_nobody_knows_is_a_mistake(field: str) -> None:
    (name,) = faults(**{field: 1})
    assert name == field.replace("__", ".")


@pytest.mark.parametrize(
    ("field", "lowest", "highest", "step"),
    [
        ("limits__memory_mib", 32, 8192, 1),
        ("limits__cpu", 0.05, 4, 0.001),
        ("limits__tmp_mib", 1, 1024, 1),
        ("limits__processes", 4, 1024, 1),
        ("limits__concurrency", 1, 1000, 1),
    ],
)
def test_limits_are_allowed_up_to_their_ends_and_not_beyond(
    field: str, lowest: float, highest: float, step: float
) -> None:
    for value in (lowest, highest):
        limits = parsed(**{field: value}).limits
        assert getattr(limits, field.partition("__")[2]) == value
    for value in (lowest - step, highest + step):
        assert list(faults(**{field: value})) == [field.replace("__", ".")]


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("limits__timeout_seconds", [0.001, 1, 1800], [0, -1, 1800.001]),
        ("service_level__p95_seconds", [0.1, 1e6], [0, -1]),
        ("service_level__success_rate", [0.001, 1], [0, 1.001, -0.5]),
        ("pricing__free_runs", [0, 1, 10**9], [-1, 0.5]),
        ("manifest", [1], [0, 2, "1"]),
    ],
)
def test_figures_have_their_range(field: str, good: list[object], bad: list[object]) -> None:
    for value in good:
        parsed(**{field: value})
    for value in bad:
        assert list(faults(**{field: value})) == [field.replace("__", ".")]


@pytest.mark.parametrize(("field", "longest"), [("title", 60), ("summary", 160), ("description", 10_000)])
def test_texts_are_as_long_as_a_page_shows(field: str, longest: int) -> None:
    assert len(getattr(parsed(**{field: "\u00e9" * longest}), field)) == longest
    assert list(faults(**{field: "\u00e9" * (longest + 1)})) == [field]
    if field != "description":
        assert list(faults(**{field: ""})) == [field]


@pytest.mark.parametrize(("field", "most"), [("categories", 3), ("tags", 20)])
def test_lists_are_as_long_as_a_page_shows(field: str, most: int) -> None:
    assert len(getattr(parsed(**{field: [f"x{n}" for n in range(most)]}), field)) == most
    assert list(faults(**{field: [f"x{n}" for n in range(most + 1)]})) == [field]


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (
            "name",
            ["org.agentnexus.sample", "a.b.c", "com.example.my-agent-2", "x1.y-2.z3.w4"],
            ["", "sample", "org.sample", "Org.agent.x", "org..x", ".org.a.b", "org.a.b.", "org.a b.c", "1org.a.b",
             "org.a.b\n", "org/a/b", "org.\u00e4.b", "org.a.-b", "a.b." + "c" * 125],
        ),
        (
            "version",
            ["0.0.0", "1.2.3", "10.20.30", "1.0.0-rc.1", "1.0.0-alpha-2"],
            ["", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3.4", "1.2.3-", "1.2.3+build", "1.2.x", " 1.2.3", "1.2.3\n",
             "\u0661.0.0"],
        ),
        (
            "capability",
            ["text.count", "a.b", "pdf.extract.fast", "x_1.y_2"],
            ["", "count", "Text.count", "text-count", "text.", ".count", "text..count", "1text.count", "text.count\n"],
        ),
        (
            "entry",
            ["agent:run", "pkg.mod:main", "_a:_b"],
            ["", "agent", "agent.py", ":run", "agent:", "agent:run()", "../agent:run", "a/b:run", "agent:run:x",
             "agent.:run", "1agent:run", "os;x:run", "agent:run\n"],
        ),
        (
            "image",
            ["ghcr.io/x/y@sha256:" + "0" * 64],
            ["", "ghcr.io/x/y", "ghcr.io/x/y:latest", "x@sha256:" + "0" * 63, "x@sha256:" + "G" * 64,
             "x y@sha256:" + "0" * 64],
        ),
    ],
)  # fmt: skip
def test_texts_with_a_form_have_it(field: str, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert getattr(parsed(**{field: text}), field) == text
    for text in bad:
        assert list(faults(**{field: text})) == [field], text


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (
            "egress__hosts",
            ["example.com", "a.b.c.example", "x1.example:8443", "xn--bcher-kva.example", "a-b.example:1"],
            ["", "localhost", "10.0.0.1", "example", "Example.com", "https://example.com", "example.com/",
             "*.example.com",
             "-a.example", "a-.example", "a..example", "example.com:", "example.com:123456", "ex ample.com", "[::1]",
             "example.com.", "user@example.com", "a" * 64 + ".example", ("a" * 60 + ".") * 4 + "example.com"],
        ),
        (
            "secrets",
            ["API_KEY", "A", "X9_", "A" * 64],
            ["", "api_key", "1KEY", "API KEY", "API-KEY", "A" * 65, "\u00c4", "$KEY"],
        ),
        (
            "preload",
            ["pypdf", "a.b.c", "_x", "numpy.linalg"],
            ["", "a-b", "a..b", ".a", "a.", "1a", "a b", "os;x", "a/b"],
        ),
    ],
)  # fmt: skip
def test_every_entry_of_a_list_has_its_form(field: str, good: list[str], bad: list[str]) -> None:
    parsed(**{field: good})
    for text in bad:
        assert list(faults(**{field: ["ok.example" if "hosts" in field else good[0], text]})) == [
            field.replace("__", ".") + ".1"
        ], text


@pytest.mark.parametrize("price", ["0", "1", "0.02", "0.000001", "123456789012345678", "0." + "1" * 18, "00.5", "1.0"])
def test_prices_are_decimal_texts(price: str) -> None:
    assert parsed(pricing__per_run=price).pricing.maximum == Decimal(price)


@pytest.mark.parametrize(
    "price",
    [
        "", " ", "free", "-1", "-0.01", "+1", "1,5", "1e3", "1E-3", "1e999999999", "NaN", "sNaN", "Infinity", "-inf",
        "1_000", " 1", "1 ", "1\n", "1.", ".5", "1.2.3", "0x10", "\u0661", "\uff11", "$1", "1 USDC", "9" * 19,
        "0." + "1" * 19,
    ],
)  # fmt: skip
def test_what_is_no_price_is_refused_by_field(price: str) -> None:
    (problem,) = faults(pricing__per_run=price).items()
    assert problem[0] == "pricing.per_run"
    assert "such as 0.02" in problem[1]


@pytest.mark.parametrize("price", [0.02, 1, True, ["1"]])
def test_a_price_that_is_no_text_is_refused(price: object) -> None:
    assert next(iter(faults(pricing__per_run=price))).startswith("pricing.per_run")


@given(
    st.decimals(0, 1000, places=6),
    st.lists(st.tuples(st.decimals(0, 10, places=6), st.integers(1, 1000)), max_size=5),
)
def test_the_most_a_run_can_cost_is_its_price_and_every_event_at_its_cap(
    per_run: Decimal, events: list[tuple[Decimal, int]]
) -> None:
    pricing = Pricing(
        per_run=f"{per_run:f}",
        events=tuple(
            PricedEvent(name=f"e{number}", price=f"{price:f}", maximum=cap)
            for number, (price, cap) in enumerate(events)
        ),
    )
    assert pricing.maximum == per_run + sum((price * cap for price, cap in events), Decimal(0))


def event(**changes: object) -> dict[str, object]:
    return {"name": "page", "price": "0.001", "maximum": 5, **changes}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Page"}, "name"),
        ({"name": "1page"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "p" * 65}, "name"),
        ({"name": "a page"}, "name"),
        ({"price": "-1"}, "price"),
        ({"price": "1e5"}, "price"),
        ({"maximum": 0}, "maximum"),
        ({"maximum": -1}, "maximum"),
        ({"maximum": 1.5}, "maximum"),
        ({"extra": 1}, "extra"),
    ],
)
def test_priced_events_are_checked_one_by_one(changes: dict[str, object], field: str) -> None:
    found = faults(pricing__events=[event(name="other"), event(**changes)])
    assert list(found) == [f"pricing.events.1.{field}"]


@pytest.mark.parametrize(
    "fields",
    [
        {"pricing__events": [event(), event(price="1")]},
        {"secrets": ["KEY", "KEY"]},
        {"examples": [{"title": "a", "input": {}}, {"title": "a", "input": {"x": 1}}]},
    ],
)
def test_nothing_has_one_name_twice(fields: dict[str, object]) -> None:
    ((_, problem),) = faults(**fields).items()
    assert "same name twice" in problem


@pytest.mark.parametrize(
    ("example", "field"),
    [
        ({"title": "", "input": {}}, "examples.0.title"),
        ({"title": "t" * 81, "input": {}}, "examples.0.title"),
        ({"title": "t"}, "examples.0.input"),
        ({"title": "t", "input": []}, "examples.0.input"),
        ({"title": "t", "input": {}, "output": 1}, "examples.0.output"),
    ],
)
def test_examples_have_a_title_and_an_input(example: dict[str, object], field: str) -> None:
    assert list(faults(examples=[example])) == [field]


@pytest.mark.parametrize("reason", ["failed", "timeout", "schema_mismatch", "cancelled", "sla_breach"])
def test_every_reason_for_a_refund_is_known(reason: str) -> None:
    assert parsed(service_level__refund_on=[reason]).service_level.refund_on == (reason,)
    assert list(faults(service_level__refund_on=[reason, "whim"])) == ["service_level.refund_on.1"]


def test_all_faults_of_all_parts_are_told_at_once() -> None:
    found = faults(name="x", version="y", pricing__per_run="z", limits__memory_mib=1, secrets=["a b"], more=1)
    assert set(found) == {"name", "version", "pricing.per_run", "limits.memory_mib", "secrets.0", "more"}


@pytest.mark.parametrize(
    "text", ["name", "= 1", 'name = "a"\nname = "b"', "[a\n", "a = 1 2", "\x00", "x = '\ud7ff", "a.b = 1\na = 2"]
)
def test_what_is_no_toml_is_told_as_such(text: str) -> None:
    with pytest.raises(ManifestError, match="is not TOML") as caught:
        Manifest.parse(text)
    assert caught.value.problems[0][0] == MANIFEST_NAME


def test_an_empty_file_misses_everything() -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.parse("")
    assert {field for field, _ in caught.value.problems} == set(LEAST)


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=4))
def test_any_example_survives_the_way_through_toml(value: dict[str, object]) -> None:
    manifest = Manifest.model_validate({**LEAST, "examples": [{"title": "one", "input": value}]})
    again = Manifest.parse(manifest.to_toml())
    assert again == manifest
    assert again.content_hash == manifest.content_hash


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Other"}, {"summary": "Other."}, {"version": "1.0.1"}, {"tags": ["x"]}, {"secrets": ["KEY"]},
        {"pricing": {"per_run": "0.01"}}, {"limits": {"cpu": 1.0}}, {"egress": {"hosts": ["a.example"]}},
        {"examples": [{"title": "t", "input": {}}]}, {"licence": "MIT"}, {"source": "https://x.example"},
        {"preload": ["json"]}, {"entry": "agent:other"}, {"service_level": {"p95_seconds": 1.0}},
    ],
)  # fmt: skip
def test_every_field_is_part_of_the_hash(change: dict[str, object]) -> None:
    before, after = Manifest.model_validate(LEAST), Manifest.model_validate({**LEAST, **change})
    assert before.content_hash != after.content_hash
    assert Manifest.parse(after.to_toml()).content_hash == after.content_hash


def test_a_default_written_out_is_the_same_manifest() -> None:
    plain, spelled = Manifest.model_validate(LEAST), parsed(entry="agent:run", limits__cpu=0.5, pricing__per_run="0")
    assert plain == spelled
    assert plain.content_hash == spelled.content_hash
    assert "limits" not in plain.to_toml()


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in (ROOT / "agents").glob("*/agent.toml")))
def test_the_schema_accepts_what_the_model_accepts(folder: str) -> None:
    manifest = Manifest.load(ROOT / "agents" / folder)
    schema = manifest_schema()
    Draft202012Validator(schema).validate(json.loads(manifest.model_dump_json()))
    assert schema["additionalProperties"] is False
    assert Manifest.parse(manifest.to_toml()) == manifest
