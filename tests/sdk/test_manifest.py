"""`agent.toml` is read strictly and says which field is wrong and why."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agentnexus.sdk.manifest import Manifest, ManifestError, manifest_schema
from tests.sdk.samples import MANIFEST


def changed(before: str, after: str) -> str:
    assert before in MANIFEST
    return MANIFEST.replace(before, after)


def test_a_manifest_is_read_with_its_defaults():
    manifest = Manifest.parse(MANIFEST)
    assert manifest.name == "org.agentnexus.sample"
    assert manifest.limits.memory_mib == 512
    assert manifest.limits.timeout_seconds == 5
    assert manifest.egress.hosts == ()
    assert manifest.pricing.maximum == Decimal("0.025")
    assert manifest.examples[0].input == {"text": "hello"}


def test_written_and_read_again_it_is_the_same():
    manifest = Manifest.parse(MANIFEST)
    again = Manifest.parse(manifest.to_toml())
    assert again == manifest
    assert again.content_hash == manifest.content_hash


texts = st.text(min_size=1, max_size=60).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))


@given(texts, st.dictionaries(texts, st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.lists(texts))))
def test_any_text_survives_the_way_through_toml(title: str, value: dict[str, object]):
    manifest = Manifest.parse(MANIFEST).model_copy(update={"title": title})
    manifest = Manifest.model_validate({**manifest.model_dump(), "examples": [{"title": title, "input": value}]})
    assert Manifest.parse(manifest.to_toml()) == manifest


def test_the_hash_changes_with_any_field():
    manifest = Manifest.parse(MANIFEST)
    assert manifest.content_hash != Manifest.parse(changed('per_run = "0.02"', 'per_run = "0.03"')).content_hash
    assert manifest.content_hash.startswith("sha256:")


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ('"org.agentnexus.sample"', '"Sample"', "name"),
        ('"org.agentnexus.sample"', '"org.agentnexus.Sample"', "name"),
        ('"1.2.3"', '"latest"', "version"),
        ('"1.2.3"', '"01.2.3"', "version"),
        ('summary = "Counts letters."', f'summary = "{"x" * 161}"', "summary"),
        ('categories = ["test"]', "categories = []", "categories"),
        ('"text.count"', '"count"', "capability"),
        ('"agent:count"', '"agent.py"', "entry"),
        ('"agent:count"', '"../agent:count"', "entry"),
        ('["API_KEY"]', '["api key"]', "secrets.0"),
        ('per_run = "0.02"', "per_run = 0.02", "pricing.per_run"),
        ('per_run = "0.02"', 'per_run = "-1"', "pricing.per_run"),
        ('per_run = "0.02"', 'per_run = "NaN"', "pricing.per_run"),
        ('per_run = "0.02"', 'per_run = "cheap"', "pricing.per_run"),
        ("maximum = 5", "maximum = 0", "pricing.events.0.maximum"),
        ("timeout_seconds = 5", "timeout_seconds = 1801", "limits.timeout_seconds"),
        ("timeout_seconds = 5", "memory_mib = 8193", "limits.memory_mib"),
        ("timeout_seconds = 5", "cpu = 4.5", "limits.cpu"),
        ("timeout_seconds = 5", "timeout = 5", "limits.timeout"),
        ("free_runs = 3", "free_runs = -1", "pricing.free_runs"),
        ("[limits]", '[egress]\nhosts = ["10.0.0.1"]\n[limits]', "egress.hosts.0"),
        ("[limits]", '[egress]\nhosts = ["https://example.com"]\n[limits]', "egress.hosts.0"),
        ("[limits]", '[egress]\nhosts = ["*.example.com"]\n[limits]', "egress.hosts.0"),
        ("[limits]", '[egress]\nhosts = ["[example.com]"]\n[limits]', "egress.hosts.0"),
        ("[limits]", "[surprise]\nx = 1\n[limits]", "surprise"),
        ('title = "Short"', 'title = ""', "examples.0.title"),
    ],
)
def test_every_wrong_field_is_named(before: str, after: str, field: str):
    with pytest.raises(ManifestError) as wrong:
        Manifest.parse(changed(before, after))
    assert field in [name for name, _ in wrong.value.problems]


def test_all_problems_are_told_at_once():
    text = changed('"1.2.3"', '"x"').replace('"text.count"', '"x"')
    with pytest.raises(ManifestError) as wrong:
        Manifest.parse(text)
    assert {field for field, _ in wrong.value.problems} == {"version", "capability"}
    assert "version" in str(wrong.value)


def test_a_missing_field_is_named():
    with pytest.raises(ManifestError) as wrong:
        Manifest.parse('name = "org.agentnexus.sample"')
    assert {"version", "title", "summary", "categories", "capability"} <= {field for field, _ in wrong.value.problems}


def test_the_same_event_twice_is_refused():
    twice = '{ name = "page", price = "0.001", maximum = 5 }, { name = "page", price = "1", maximum = 1 }'
    with pytest.raises(ManifestError, match="same name twice"):
        Manifest.parse(changed('{ name = "page", price = "0.001", maximum = 5 }', twice))


def test_what_is_not_toml_or_not_there_is_told(tmp_path):
    with pytest.raises(ManifestError, match="is not TOML"):
        Manifest.parse("name = ")
    with pytest.raises(ManifestError, match="is missing"):
        Manifest.load(tmp_path)
    (tmp_path / "agent.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="not UTF-8"):
        Manifest.load(tmp_path)


def test_hosts_may_carry_a_port():
    hosts = '[egress]\nhosts = ["api.example.com", "a.b.example:8443"]\n'
    manifest = Manifest.parse(changed("[limits]", hosts + "[limits]"))
    assert manifest.egress.hosts == ("api.example.com", "a.b.example:8443")


def test_the_schema_of_the_manifest_is_valid_and_fits():
    schema = manifest_schema()
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(Manifest.parse(MANIFEST).model_dump(mode="json"))
