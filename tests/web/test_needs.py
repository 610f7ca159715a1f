"""Of several fields one is needed: the form says so before anything is sent, in the browser and without scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace

import httpx
import pytest
from playwright.async_api import expect
from pydantic import BaseModel, ConfigDict

from agentnexus.hiring.schemas import Schemas, names_needed
from agentnexus.sdk import one_of
from agentnexus.web.forms import Kind, build_form, check, parse_form
from agentnexus.web.forms.check import SEVERAL_FIT
from agentnexus.workflows.schemas import at_path, branches, problems
from tests.web import samples
from tests.web.conftest import Site, Visitor
from tests.web.test_pages_http import HTML

TEXT = {"type": "string", "maxLength": 5000}
NULLABLE = {"anyOf": [TEXT, {"type": "null"}]}
PARTS = {
    "text": {**NULLABLE, "title": "Text"},
    "page_url": {**NULLABLE, "title": "Web address"},
    "count": {"type": "integer"},
}
ONE: Mapping[str, object] = {"type": "object", "properties": PARTS, **one_of("text", "page_url")}
ANY: Mapping[str, object] = {
    "type": "object",
    "properties": {**PARTS, "city": TEXT, "street": TEXT},
    "anyOf": [{"required": ["page_url"]}, {"required": ["street", "city"]}],
}
AGENT = "/agents/org.agentnexus.pdf-extractor"
RULE = re.compile(r'<p class="hint"( data-one-of="[^"]*")?( data-exactly)?>([^<]*)</p>')


def nested(schema: Mapping[str, object], *, required: bool) -> dict[str, object]:
    return {"type": "object", "properties": {"part": dict(schema)}, "required": ["part"] if required else []}


# -- reading the rule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alternatives", "names"),
    [
        ([{"required": ["a"]}, {"required": ["b"]}], (("a",), ("b",))),
        ([{"required": ["a", "b"], "title": "both"}, {"required": ["c"]}], (("a", "b"), ("c",))),
        (one_of("a", "b")["oneOf"], (("a",), ("b",))),
        ([{"required": ["a"]}, {"type": "string"}], ()),
        ([{"required": ["a"], "properties": {"a": {"const": 1}}}, {"required": ["b"]}], ()),
        ([{"required": []}, {"required": ["b"]}], ()),
        ([{"required": "a"}, {"required": ["b"]}], ()),
        ([True, {"required": ["b"]}], ()),
        ([], ()),
        ("required", ()),
        (None, ()),
    ],
)
def test_alternatives_that_only_say_what_must_be_there_are_a_rule(
    alternatives: object, names: tuple[tuple[str, ...], ...]
) -> None:
    assert names_needed(alternatives) == names


def test_the_form_says_the_rule_in_the_fields_own_labels() -> None:
    (need,) = build_form(ONE).needs
    assert need.text == "Fill in one of these, and only one: Text or Web address."
    assert need.exactly
    assert json.loads(need.ids) == [[field.id] for field in build_form(ONE).fields[:2]]
    (loose,) = build_form(ANY).needs
    assert loose.text == "Fill in one of these: Web address or Street with City."
    assert not loose.exactly


def test_fields_of_a_rule_are_no_longer_called_optional_and_others_are() -> None:
    fields = {field.label: field for field in build_form(ONE).fields}
    assert [label for label, field in fields.items() if field.alternative] == ["Text", "Web address"]
    assert not any(field.required for field in fields.values())


def test_a_rule_about_fields_that_the_form_has_not_is_left_to_the_seller() -> None:
    assert build_form({**ONE, **one_of("text", "nowhere")}).needs == ()
    assert build_form({**ONE, "oneOf": [{"required": ["text"]}]}).needs == ()


def test_a_rule_inside_a_list_is_about_that_item() -> None:
    schema = {"type": "object", "properties": {"sources": {"type": "array", "minItems": 1, "items": ONE}}}
    (listed,) = build_form(schema).fields
    (first,) = listed.children
    assert first.kind is Kind.GROUP
    assert [json.loads(need.ids)[0] for need in first.needs] == [[first.children[0].id]]
    assert listed.blank is not None
    assert "__1__" in listed.blank.needs[0].ids


def test_two_shapes_to_choose_from_are_still_a_choice() -> None:
    schema = {"type": "object", "properties": {"x": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}}
    assert build_form(schema).fields[0].kind is Kind.CHOICE


# -- checking -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "value", "wrong"),
    [
        (ONE, {}, {"/text"}),
        (ONE, {"count": 3}, {"/text"}),
        (ONE, {"text": None, "page_url": None}, {""}),
        (ONE, {"text": "a"}, set()),
        (ONE, {"text": "a", "page_url": None}, set()),
        (ONE, {"text": "a", "page_url": "b"}, {""}),
        (ANY, {}, {"/page_url"}),
        (ANY, {"city": "Rome"}, {"/page_url"}),
        (ANY, {"city": "Rome", "street": "Via"}, set()),
        (ANY, {"city": "Rome", "street": "Via", "page_url": "u"}, set()),
    ],
)
def test_what_is_sent_is_held_to_the_rule(
    schema: Mapping[str, object], value: dict[str, object], wrong: set[str]
) -> None:
    assert set(check(schema, value)) == wrong
    assert bool(Schemas().problems(schema, value)) is bool(wrong)


def test_an_empty_form_has_the_rule_at_the_first_of_its_fields() -> None:
    errors = check(ONE, parse_form(ONE, {"in/text": [" "], "in/page_url": [""], "in/count": ["3"]}).value)
    form = build_form(ONE, {"count": 3}, errors)
    assert [(field.label, field.error) for field in form.failed] == [("Text", form.needs[0].text)]
    assert form.errors == ()


def test_filling_in_both_is_said_on_top() -> None:
    value = {"text": "a", "page_url": "b"}
    form = build_form(ONE, value, check(ONE, value))
    assert form.errors == (SEVERAL_FIT,)


def test_of_three_that_exclude_each_other_two_are_not_told_that_the_third_is_needed() -> None:
    schema = {"type": "object", "properties": dict.fromkeys("abc", TEXT), **one_of("a", "b", "c")}
    assert check(schema, {"a": "x", "c": "y"}) == {"": SEVERAL_FIT}
    assert set(check(schema, {})) == {"/a"}


def test_the_rule_of_an_item_is_said_at_that_item() -> None:
    schema = {"type": "object", "properties": {"sources": {"type": "array", "items": ONE}}}
    value = {"sources": [{"text": "a"}, {"count": 3}]}
    form = build_form(schema, value, check(schema, value))
    assert [(field.pointer, field.error[:19]) for field in form.failed] == [("/sources/1/text", "Fill in one of thes")]


# -- the same schema read by a planner ----------------------------------------------------------------------------


def test_a_planner_sees_the_members_of_a_schema_with_a_rule() -> None:
    assert branches(ONE, ONE) == [ONE]
    assert [found["type"] for found in at_path(ONE, ["text"])] == ["string"]
    assert list(problems({"text": {"$step": "s1", "path": "text"}}, ONE, {"s1": {"properties": {"text": TEXT}}})) == []
    assert list(problems({"wrong": 1, "text": "a"}, {**ONE, "additionalProperties": False}, {}))
    assert list(problems({"count": 3}, ONE, {}))


def test_real_alternatives_are_still_followed() -> None:
    shapes = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"text": TEXT}}]}
    assert len(branches(shapes, shapes)) == 2


def test_an_agents_own_model_carries_the_rule_into_its_schema() -> None:
    class Request(BaseModel):
        model_config = ConfigDict(json_schema_extra=one_of("text", "file"))

        text: str | None = None
        file: str | None = None

    schema = Request.model_json_schema()
    assert build_form(schema).needs[0].text == "Fill in one of these, and only one: Text or File."
    for good in ({"text": "a"}, {"file": "b", "text": None}):
        assert check(schema, good) == {}
        Request.model_validate(good)


# -- pages --------------------------------------------------------------------------------------------------------


def sells(site: Site, schema: Mapping[str, object]) -> None:
    site.app.state.catalogue.agents = (replace(samples.AGENTS[0], input_schema=schema, examples=()),)


async def test_without_scripts_the_page_says_the_rule_and_nothing_is_run_against_it(
    site: Site, client: httpx.AsyncClient
) -> None:
    sells(site, ONE)
    page = (await client.get(AGENT, headers=HTML)).text
    assert [found[2] for found in RULE.findall(page)] == ["Fill in one of these, and only one: Text or Web address."]
    assert page.count("one of these is needed") == 2
    answer = await client.post(f"{AGENT}/run", data={"in/text": "", "in/page_url": "", "_run": "1"}, headers=HTML)
    assert answer.status_code == 422
    assert "Some answers need another look" in answer.text
    assert site.runs.ran == []


@pytest.mark.parametrize(("required", "held"), [(True, True), (False, False)])
async def test_a_group_that_may_be_left_out_stops_nobody(
    site: Site, client: httpx.AsyncClient, required: bool, held: bool
) -> None:
    sells(site, nested(ONE, required=required))
    ((rule, _, _),) = RULE.findall((await client.get(AGENT, headers=HTML)).text)
    assert bool(rule) is held


async def test_the_browser_stops_an_empty_form_before_anything_is_sent(visitor: Visitor) -> None:
    sells(visitor.site, ONE)
    page = await visitor.open(AGENT)
    run = page.get_by_role("button", name="Run for 0.02 USDC").first
    text, address = page.locator("[name='in/text']"), page.locator("[name='in/page_url']")
    await run.click()
    said = await text.evaluate("field => field.validationMessage")
    assert said == "Fill in one of these, and only one: Text or Web address."
    await expect(text).to_be_focused()
    await text.fill("a")
    await address.fill("b")
    assert not await text.evaluate("field => field.validity.valid")
    await text.fill("")
    assert await text.evaluate("field => field.validity.valid")
    await run.click()
    await page.wait_for_url("**/tasks/wf_executing")
    assert [value for _, value in visitor.site.runs.ran] == [{"page_url": "b"}]


async def test_an_item_that_is_added_is_held_to_its_rule(visitor: Visitor) -> None:
    schema = {"type": "object", "properties": {"sources": {"type": "array", "items": ONE}}}
    sells(visitor.site, schema)
    page = await visitor.open(AGENT)
    add = page.get_by_role("button", name="Add source")
    await add.click()
    first = page.locator("[name='in/sources/0/text']")
    assert not await first.evaluate("field => field.validity.valid")
    await first.fill("a")
    await add.click()
    assert await first.evaluate("field => field.validity.valid")
    assert not await page.locator("[name='in/sources/1/text']").evaluate("field => field.validity.valid")
    await page.get_by_role("button", name="Remove Source 2").or_(page.locator("[data-remove]").nth(1)).first.click()
    await page.get_by_role("button", name="Run for 0.02 USDC").first.click()
    await page.wait_for_url("**/tasks/wf_executing")
    assert visitor.site.runs.ran[0][1] == {"sources": [{"text": "a"}]}
