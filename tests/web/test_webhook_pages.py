"""Webhooks on their pages: made, tested, switched off and on, told again, forgotten; on the real room, too."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.platform.database import Database
from agentnexus.platform.outbound import OutboundTransport
from agentnexus.platform.process import free_port
from agentnexus.platform.sealing import Sealer
from agentnexus.platform.signing import Ed25519Signer
from agentnexus.web.adapters.webhooks import HouseWebhooks
from agentnexus.web.views.webhooks import TrialView
from agentnexus.workflows.audit import Trail
from agentnexus.workflows.webhooks.deliverer import Deliverer
from agentnexus.workflows.webhooks.secrets import Secrets
from agentnexus.workflows.webhooks.service import Webhooks
from agentnexus.workflows.webhooks.signing import check
from tests.web.conftest import Site
from tests.workflows.site import make, open_site, serving, sse

HTML = {"accept": "text/html"}
PAGE = "/saved/webhooks"
SIGNER = Ed25519Signer.from_seed(b"\x07" * 32)


async def test_every_webhook_is_listed_with_its_last_delivery(client: httpx.AsyncClient) -> None:
    page = (await client.get(PAGE, headers=HTML)).text
    assert "https://example.com/nexus" in page
    assert "delivered. Answered 200." in page
    assert "Off: it answered that it is gone" in page
    assert "Nothing was sent yet." in page
    assert "token=&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page


async def test_a_new_webhook_shows_its_secret_once(site: Site, client: httpx.AsyncClient) -> None:
    events = ["workflow.completed", "payment.*", "not.an.event"]
    form = {"url": "https://example.org/in", "events": events, "signature": "hmac-sha256"}
    made = await client.post(PAGE, data=form, headers=HTML)
    assert made.status_code == 200
    assert "whsec_c2VjcmV0" in made.text
    assert made.headers["cache-control"] == "no-store"
    assert site.app.state.webhooks.webhooks["whk_3"].events == ("workflow.completed", "payment.*")
    assert "whsec_" not in (await client.get(f"{PAGE}/whk_3", headers=HTML)).text
    signed = await client.post(PAGE, data={**form, "signature": "ed25519"}, headers=HTML)
    assert (signed.status_code, signed.headers["location"]) == (303, f"{PAGE}/whk_3")


async def test_a_bad_address_comes_back_with_what_was_typed(client: httpx.AsyncClient) -> None:
    form = {"url": "ftp://example.org", "events": ["step.*"], "signature": "ed25519"}
    refused = await client.post(PAGE, data=form, headers=HTML)
    assert refused.status_code == 400
    assert "The address must begin with https://" in refused.text
    assert 'value="ftp://example.org"' in refused.text
    assert 'value="step.*" checked' in refused.text
    assert 'value="workflow.completed">' in refused.text


async def test_a_test_message_says_how_it_was_answered(site: Site, client: httpx.AsyncClient) -> None:
    arrived = await client.post(f"{PAGE}/whk_1/test", headers=HTML)
    assert "The test message arrived: answered 200" in arrived.text
    site.app.state.webhooks.answer = TrialView(500, "<b>oops</b>")
    failed = (await client.post(f"{PAGE}/whk_1/test", headers=HTML)).text
    assert "The address answered 500" in failed
    assert "&lt;b&gt;oops&lt;/b&gt;" in failed
    site.app.state.webhooks.answer = TrialView(None, "no answer in 10 s")
    assert "The address did not answer" in (await client.post(f"{PAGE}/whk_1/test", headers=HTML)).text


async def test_deliveries_are_filtered_and_sent_again(site: Site, client: httpx.AsyncClient) -> None:
    whole = (await client.get(f"{PAGE}/whk_1", headers=HTML)).text
    assert "after 3 attempts. Again in 2 h." in whole
    assert "Not answered: no answer in 10 s" in whole
    assert "Not sent yet" in whole
    failed = (await client.get(f"{PAGE}/whk_1?state=failed", headers=HTML)).text
    assert "Given up" in failed
    assert "Answered 503" not in failed
    assert "Answered 503" in (await client.get(f"{PAGE}/whk_1?state=strange", headers=HTML)).text
    again = await client.post(f"{PAGE}/whk_1/deliveries/wf_completed/3", headers=HTML)
    assert (again.status_code, site.app.state.webhooks.repeated) == (303, [("wf_completed", 3)])
    assert (await client.post(f"{PAGE}/whk_1/deliveries/wf_completed/x", headers=HTML)).status_code in (404, 405)


async def test_a_webhook_is_switched_given_a_new_secret_and_deleted(site: Site, client: httpx.AsyncClient) -> None:
    kept = site.app.state.webhooks.webhooks
    await client.post(f"{PAGE}/whk_1/pause", headers=HTML)
    assert not kept["whk_1"].enabled
    assert f'action="{PAGE}/whk_1/resume"' in (await client.get(f"{PAGE}/whk_1", headers=HTML)).text
    await client.post(f"{PAGE}/whk_1/resume", headers=HTML)
    assert kept["whk_1"].enabled
    assert "whsec_YW5vdGhlcg" in (await client.post(f"{PAGE}/whk_1/secret", headers=HTML)).text
    assert (await client.post(f"{PAGE}/whk_1/delete", headers=HTML)).headers["location"] == PAGE
    for path in ("", "/test", "/secret", "/pause", "/resume", "/delete", "/deliveries/wf_1/1"):
        call = client.get if not path else client.post
        assert (await call(f"{PAGE}/whk_1{path}", headers=HTML)).status_code == 404


async def test_nobody_elses_page_posts_here(client: httpx.AsyncClient) -> None:
    foreign = {**HTML, "origin": "https://evil.example"}
    for path in ("", "/whk_1/test", "/whk_1/secret", "/whk_1/delete"):
        assert (await client.post(f"{PAGE}{path}", headers=foreign)).status_code == 403


async def test_the_real_room_stands_behind_the_pages(database: Database) -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    async def take(request: Request) -> Response:
        got.append((dict(request.headers), await request.body()))
        return PlainTextResponse("thanks")

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(Starlette(routes=[Route("/hook", take, methods=["POST"])])))
        http = await stack.enter_async_context(httpx.AsyncClient(transport=OutboundTransport(allow_loopback=True)))
        secrets = Secrets(Sealer(b"\x07" * 32, SystemEntropy()))
        deliverer = Deliverer(database, http, SIGNER, secrets)
        webhooks = Webhooks(database, Trail(database), secrets=secrets, allow_local=True)
        house = HouseWebhooks(webhooks, deliverer.trial)
        made = await house.create("ann", f"{url}/hook", ["workflow.completed"], "hmac-sha256")
        assert await house.test("ann", made.id) == TrialView(200, "thanks")
        ((headers, body),) = got
        stamp = float(headers["webhook-timestamp"])
        assert check(headers, body, stamp, secret=made.secret) == json.loads(body)["id"]
        assert json.loads(body)["type"] == "webhook.test"
        await _delivered_and_logged(database, house, deliverer, made.id)
        await _refused(house, made.id)


async def _delivered_and_logged(database: Database, house: HouseWebhooks, deliverer: Deliverer, hook: str) -> None:
    async with open_site(database) as api:
        ann = await api.client("ann")
        task = await make(ann, autoApprove=True)
        await sse(ann, task)
    assert (await house.one("ann", hook))[1][0].state.label == "Waiting"
    assert await deliverer.tick() == 1
    _, (done,) = await house.one("ann", hook, "delivered")
    assert (done.run_id, done.event, done.status, done.answer) == (task, "workflow.completed", 200, "thanks")
    await house.again("ann", hook, done.run_id, done.sequence)
    (listed,) = await house.all("ann")
    assert (listed.last and listed.last.state.label, listed.secret) == ("Waiting", "")


async def _refused(house: HouseWebhooks, hook: str) -> None:
    with pytest.raises(NotFound):
        await house.test("bob", hook)
    with pytest.raises(InvalidInput):
        await house.create("ann", "https://example.com", [], "hmac-sha256")
    with pytest.raises(InvalidInput):
        await house.create("ann", "https://example.com", ["step.*"], "rot13")
    await house.switch("ann", hook, enabled=False)
    assert (await house.one("ann", hook))[0].reason == "switched off"
    assert (await house.rotate("ann", hook)).secret.startswith("whsec_")
    nobody = await house.create("ann", f"http://127.0.0.1:{free_port()}/", ["*"], "ed25519")
    answer = await house.test("ann", nobody.id)
    assert (answer.status, answer.arrived) == (None, False)
    assert answer.answer
    await house.delete("ann", nobody.id)
