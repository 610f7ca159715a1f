"""Webhooks: signed, at least once, tried again, given up, never sent into somebody's private network."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentnexus.core.canonical import Json
from agentnexus.core.clock import ManualClock, SeededEntropy, SystemClock
from agentnexus.core.errors import InvalidInput, NotAllowed, NotFound, Unavailable
from agentnexus.core.events import Event, EventName
from agentnexus.platform.database import Database
from agentnexus.platform.outbound import OutboundTransport
from agentnexus.platform.process import free_port
from agentnexus.platform.sealing import Sealer
from agentnexus.platform.signing import Ed25519Signer
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.audit import Trail
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import Draft, NewRun, Phase, Run, StepContext
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.engine.restate.door import RestatePlaces, restate_engine
from agentnexus.workflows.engine.restate.server import RestateServer
from agentnexus.workflows.webhooks.deliverer import DELAYS_SECONDS, DISABLED_AFTER, LEASE, PER_ENDPOINT, Deliverer
from agentnexus.workflows.webhooks.model import Signature, checked_url
from agentnexus.workflows.webhooks.noting import Noting
from agentnexus.workflows.webhooks.secrets import Secrets
from agentnexus.workflows.webhooks.service import Webhooks
from agentnexus.workflows.webhooks.signing import check, hmac_signature, new_secret

from .conftest import QUICK, until
from .site import SECRETS, Site, make, serving, sse

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
SIGNER = Ed25519Signer.from_seed(b"\x05" * 32)


@dataclass
class Receiver:
    """An endpoint that keeps what it gets and answers what it is told to."""

    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def take(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        if self.hold is not None:
            await self.hold.wait()
        return self.answers.pop(0) if self.answers else PlainTextResponse("thanks")


@dataclass
class Post:
    """Webhooks on a clock moved by hand, an engine to make events with, and a receiver."""

    webhooks: Webhooks
    deliverer: Deliverer
    clock: ManualClock
    engine: DurableEngine
    receiver: Receiver
    url: str
    http: httpx.AsyncClient
    database: Database

    heard: set[str] | None = None  # runs whose beginning was told from elsewhere; None: PostgreSQL needs no telling

    async def event(self, run_id: str = "wf_1", name: EventName = EventName.WORKFLOW_PLANNING) -> None:
        """Begin a run; its delivery is noted then."""
        await self.engine.start(NewRun(run_id, "workflow", None, tenant="ann", drafts=(Draft(name, {"n": run_id}),)))
        await until(lambda: self.heard is None or run_id in self.heard, f"{run_id} is heard of")

    async def later(self, seconds: float) -> int:
        self.clock.advance(seconds)
        return await self.deliverer.tick()


@asynccontextmanager
async def engine_on(
    backend: str, database: Database, restate: RestateServer | None, heard: set[str]
) -> AsyncIterator[DurableEngine]:
    """The engine of a worker process, with webhooks wired as bootstrap does."""
    if restate is None:
        async with Wakeups(database) as wakeups:
            yield DurableEngine(PostgresJournal(database, wakeups), settings=QUICK)
        return
    noting = Noting(database)

    async def listen(tenant: str, events: Sequence[Event]) -> None:
        await noting.note(tenant, events)
        heard.update(event.subject for event in events)

    places = RestatePlaces(
        restate.ingress_url, restate.admin_url, port=free_port(), namespace=f"{backend}-{secrets.token_hex(4)}"
    )
    async with restate_engine(places, works=True, settings=QUICK, listen=listen) as engine:
        yield engine


@pytest.fixture(params=["postgres", "restate"])
async def post(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Post]:
    restate = request.getfixturevalue("restate") if request.param == "restate" else None
    heard: set[str] = set()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(engine_on(request.param, database, restate, heard))
        receiver = Receiver()
        app = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
        url = await stack.enter_async_context(serving(app))
        clock = ManualClock(datetime.now(UTC) + timedelta(minutes=5))  # the database's own runs on, and is behind it
        transport = OutboundTransport(allow_loopback=True)
        http = await stack.enter_async_context(httpx.AsyncClient(transport=transport))
        webhooks = Webhooks(
            database, Trail(database), secrets=SECRETS, allow_local=True, clock=clock, entropy=SeededEntropy(3)
        )
        yield Post(
            webhooks, Deliverer(database, http, SIGNER, SECRETS, clock=clock), clock, engine, receiver, f"{url}/hook",
            http, database, None if restate is None else heard,
        )  # fmt: skip


async def test_an_event_arrives_signed_with_its_id(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    await post.event()
    assert await post.later(1) == 1
    ((headers, body),) = post.receiver.got
    assert check(headers, body, post.clock.now().timestamp(), secret=made.secret) == "evt_wf_1_1"
    said = json.loads(body)
    assert (said["id"], said["type"], said["data"], said["seq"], said["workflowId"]) == (
        "evt_wf_1_1", "workflow.planning", {"n": "wf_1"}, 1, "wf_1",
    )  # fmt: skip
    (entry,) = await post.webhooks.log(made.id, "ann")
    assert (entry.state, entry.status, entry.answer, entry.attempts) == ("delivered", 200, "thanks", 1)
    assert await post.later(3600) == 0


async def test_the_nodes_own_key_signs_where_that_is_wanted(post: Post) -> None:
    await post.webhooks.create("ann", post.url, signature=Signature.ED25519)
    await post.event()
    await post.later(1)
    ((headers, body),) = post.receiver.got
    now = post.clock.now().timestamp()
    assert check(headers, body, now, public_id=SIGNER.public_id) == "evt_wf_1_1"
    with pytest.raises(NotAllowed):
        check(headers, body, now, public_id=Ed25519Signer.from_seed(b"\x06" * 32).public_id)


def test_a_wrong_old_or_altered_message_is_not_believed() -> None:
    secret = new_secret(SeededEntropy(1))
    signature = hmac_signature(secret, "evt_1", 1000, b"x")
    headers = {"webhook-id": "evt_1", "webhook-timestamp": "1000", "webhook-signature": signature}
    assert check(headers, b"x", 1000, secret=secret) == "evt_1"
    for body, now, changes in (
        (b"y", 1000, {}),
        (b"x", 1301, {}),
        (b"x", 699, {}),
        (b"x", 1000, {"webhook-id": "evt_2"}),
        (b"x", 1000, {"webhook-timestamp": "soon"}),
        (b"x", 1000, {"webhook-signature": "v1,AAAA"}),
        (b"x", 1000, {"webhook-signature": "v1a,@@@"}),
    ):
        with pytest.raises(NotAllowed):
            check({**headers, **changes}, body, now, secret=secret, public_id=SIGNER.public_id)
    with pytest.raises(NotAllowed):
        check(headers, b"x", 1000, secret=new_secret(SeededEntropy(2)))


async def test_only_the_events_asked_for_of_the_owner_are_sent(post: Post) -> None:
    done = await post.webhooks.create("ann", post.url, ["workflow.completed"])
    steps = await post.webhooks.create("ann", post.url, ["step.*"])
    other = await post.webhooks.create("bob", post.url, ["*"])
    await post.event("wf_1", EventName.WORKFLOW_COMPLETED)
    await post.event("wf_2", EventName.STEP_STARTED)
    await post.event("wf_3", EventName.PAYMENT_SETTLED)
    assert [entry.run_id for entry in await post.webhooks.log(done.id, "ann")] == ["wf_1"]
    assert [entry.run_id for entry in await post.webhooks.log(steps.id, "ann")] == ["wf_2"]
    assert await post.webhooks.log(other.id, "bob") == []


async def test_what_a_run_goes_through_is_told_from_its_beginning_to_its_end(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url, ["workflow.*", "step.completed"])

    async def body(run: Run, _given: Json) -> Json:
        async def step(_context: StepContext) -> Json:
            return None

        for number in range(3):
            await run.mark(f"mark-{number}", Draft(EventName.STEP_PROGRESS, {"n": number}))
            done = Draft(EventName.STEP_COMPLETED, {"n": number})
            await run.step(
                f"step-{number}", step, narrate=lambda seen, done=done: [done] if seen.phase is Phase.COMPLETED else []
            )
        return None

    post.engine.register("workflow", body, lambda *_: [Draft(EventName.WORKFLOW_COMPLETED)])
    await post.event()
    worker = asyncio.create_task(post.engine.work())
    await post.engine.result("wf_1")

    async def all_noted() -> bool:
        return len(await post.webhooks.log(made.id, "ann")) == 5

    await until(all_noted, "a delivery for each event that is wanted")
    worker.cancel()
    await asyncio.wait([worker])
    assert (await post.later(1), await post.later(1)) == (PER_ENDPOINT, 5 - PER_ENDPOINT)
    said = sorted((json.loads(body) for _, body in post.receiver.got), key=lambda message: message["seq"])
    events = [event async for event in post.engine.events("wf_1")]
    wanted = [event for event in events if event.name is not EventName.STEP_PROGRESS]
    assert [(each["seq"], each["type"], each["data"]) for each in said] == [
        (event.sequence, event.name.value, event.data) for event in wanted
    ]


async def test_events_heard_again_make_no_second_delivery(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    event = Event(name=EventName.WORKFLOW_PLANNING, subject="wf_9", sequence=1, at=START, data={"n": "\u0000"})
    for _ in range(3):
        await Noting(post.database).note("ann", [event])
        await Noting(post.database).note("bob", [event])
    assert [(entry.run_id, entry.sequence) for entry in await post.webhooks.log(made.id, "ann")] == [("wf_9", 1)]
    assert await post.later(1) == 1


async def test_events_wait_until_the_database_answers_again(restate: RestateServer, database: Database) -> None:
    noting, tries = Noting(database), 0

    async def listen(tenant: str, events: Sequence[Event]) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("the database does not answer")
        await noting.note(tenant, events)

    webhooks = Webhooks(database, Trail(database), secrets=SECRETS, allow_local=True)
    made = await webhooks.create("ann", "http://127.0.0.1:9/hook")
    places = RestatePlaces(restate.ingress_url, restate.admin_url, port=free_port(), namespace=secrets.token_hex(4))
    async with restate_engine(places, works=True, listen=listen) as engine:
        await engine.start(NewRun("wf_1", "workflow", None, tenant="ann", drafts=(Draft(EventName.WORKFLOW_PLANNING),)))

        async def noted() -> bool:
            return bool(await webhooks.log(made.id, "ann"))

        await until(noted, "the delivery")
    assert tries == 3


async def test_a_failing_endpoint_is_tried_again_later_and_later_then_given_up(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    post.receiver.answers = [PlainTextResponse("no", 503)] * (len(DELAYS_SECONDS) + 1)
    await post.event()
    assert await post.later(1) == 1
    for delay in DELAYS_SECONDS:
        assert await post.later(delay - 1) == 0
        assert await post.later(1) == 1
    (entry,) = await post.webhooks.log(made.id, "ann", "failed")
    assert (entry.status, entry.answer, entry.attempts) == (503, "no", len(DELAYS_SECONDS) + 1)
    assert len({headers["webhook-id"] for headers, _ in post.receiver.got}) == 1
    assert await post.later(86_400) == 0
    await post.webhooks.again(made.id, "ann", "wf_1", 1)
    assert await post.later(1) == 1
    assert (await post.webhooks.log(made.id, "ann", "delivered"))[0].status == 200


async def test_an_endpoint_that_keeps_failing_is_switched_off_and_can_be_switched_on(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    async with post.database.connection() as connection:
        await connection.execute("update workflow.webhook set failures = $1", DISABLED_AFTER - 1)
    post.receiver.answers = [PlainTextResponse("no", 500)]
    await post.event()
    async with post.database.connection() as connection:
        await connection.execute("update workflow.delivery set attempts = $1", len(DELAYS_SECONDS))
    await post.later(1)
    off = await post.webhooks.get(made.id, "ann")
    assert (off.enabled, off.reason) == (False, "too many deliveries failed in a row")
    await post.event("wf_2")
    assert len(await post.webhooks.log(made.id, "ann")) == 1
    on = await post.webhooks.switch(made.id, "ann", enabled=True)
    assert (on.enabled, on.reason, on.failures) == (True, "", 0)


async def test_an_endpoint_that_says_it_is_gone_is_believed(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    post.receiver.answers = [PlainTextResponse("", 410)]
    await post.event()
    await post.later(1)
    assert (await post.webhooks.get(made.id, "ann")).reason == "it answered that it is gone"


async def test_a_redirect_is_not_followed(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    post.receiver.answers = [Response(status_code=307, headers={"location": "http://169.254.169.254/"})]
    await post.event()
    await post.later(1)
    (entry,) = await post.webhooks.log(made.id, "ann")
    assert (entry.state, entry.status) == ("waiting", 307)


async def test_nobody_there_is_noted_and_tried_again(post: Post) -> None:
    made = await post.webhooks.create("ann", "http://127.0.0.1:9/hook")
    await post.event()
    await post.later(1)
    (entry,) = await post.webhooks.log(made.id, "ann")
    assert (entry.state, entry.status) == ("waiting", None)
    assert entry.answer


async def test_a_name_that_leads_into_a_private_network_is_not_dialled(post: Post) -> None:
    async def rebound(_host: str, _port: int) -> list[str]:
        return ["10.0.0.7"]

    made = await post.webhooks.create("ann", "https://innocent.example/hook")
    transport = OutboundTransport(allow_loopback=False, resolve=rebound)
    await post.event()
    async with httpx.AsyncClient(transport=transport) as http:
        post.clock.advance(1)
        await Deliverer(post.database, http, SIGNER, SECRETS, clock=post.clock).tick()
    (entry,) = await post.webhooks.log(made.id, "ann")
    assert entry.answer == "innocent.example is not on the open internet"


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/hook", "ftp://shop.example/", "https://", "https:///x", "nonsense", "https://a b.example/",
        "https://user:secret@shop.example/", "https://127.0.0.1/", "https://10.1.2.3/", "https://192.168.0.1/x",
        "https://169.254.169.254/latest", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[fd00::1]/",
        "https://localhost/", "https://db.internal/", "https://printer.local/", "https://shop.example:99999/",
        "https://shop.example/" + "x" * 2000, "https://0.0.0.0/", "https://[64:ff9b::a00:1]/",
    ],
)  # fmt: skip
def test_addresses_that_are_nobodys_business_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_url(url, allow_local=False)
    assert refused.value.details["field"] == "url"


def test_in_development_this_machine_may_be_told_and_no_other_private_one() -> None:
    assert checked_url("http://127.0.0.1:8080/hook", allow_local=True)
    assert checked_url("http://localhost:8080/hook", allow_local=True)
    assert checked_url("https://shop.example/hook", allow_local=False)
    with pytest.raises(InvalidInput):
        checked_url("http://10.0.0.7/hook", allow_local=True)


async def test_a_delivery_whose_process_died_is_taken_up_after_its_lease(post: Post) -> None:
    await post.webhooks.create("ann", post.url)
    await post.event()
    post.receiver.hold = asyncio.Event()
    post.clock.advance(1)
    dying = asyncio.create_task(post.deliverer.tick())
    await until(lambda: len(post.receiver.got) == 1, "the first attempt")
    dying.cancel()
    await asyncio.wait([dying])
    post.receiver.hold.set()
    assert await post.later(LEASE.total_seconds() - 1) == 0
    assert await post.later(1) == 1
    first, second = (headers["webhook-id"] for headers, _ in post.receiver.got)
    assert first == second


async def test_many_deliverers_send_each_event_once_while_nobody_dies(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    for number in range(30):
        await post.event(f"wf_{number}")
    post.clock.advance(1)
    others = [Deliverer(post.database, post.http, SIGNER, SECRETS, clock=post.clock) for _ in range(4)]

    async def drain(deliverer: Deliverer) -> None:
        while await deliverer.tick():
            pass

    await asyncio.gather(*(drain(each) for each in others))
    ids = [headers["webhook-id"] for headers, _ in post.receiver.got]
    assert len(ids) == len(set(ids)) == 30
    assert len(await post.webhooks.log(made.id, "ann", "delivered")) == 30


async def test_an_endpoint_that_does_not_answer_does_not_hold_up_the_others(post: Post) -> None:
    stuck = Receiver(hold=asyncio.Event())
    app = Starlette(routes=[Route("/hook", stuck.take, methods=["POST"])])
    async with serving(app) as url:
        await post.webhooks.create("ann", f"{url}/hook")
        await post.webhooks.create("ann", post.url)
        for number in range(40):
            await post.event(f"wf_{number}")
        running = asyncio.create_task(Deliverer(post.database, post.http, SIGNER, SECRETS, clock=SystemClock()).run())
        await until(lambda: len(post.receiver.got) == 40, "all deliveries of the quick one")
        assert len(stuck.got) <= 4
        assert stuck.hold is not None
        stuck.hold.set()
        running.cancel()
        await asyncio.wait([running])


async def test_webhooks_over_http_show_their_secret_once(site: Site) -> None:
    ann, bob = await site.client("ann"), await site.client("bob")
    made = (await ann.post("/webhooks", json={"url": "http://127.0.0.1:9/hook", "events": ["*"]})).json()["webhook"]
    assert made["secret"].startswith("whsec_")
    path = f"/webhooks/{made['id']}"
    assert "secret" not in (await ann.get(path)).json()["webhook"]
    assert "secret" not in (await ann.get("/webhooks")).json()["webhooks"][0]
    rotated = (await ann.post(f"{path}/rotate")).json()["webhook"]["secret"]
    assert rotated != made["secret"]
    workflow_id = await make(ann, autoApprove=True)
    await sse(ann, workflow_id)
    logged = (await ann.get(f"{path}/deliveries", params={"state": "waiting"})).json()["deliveries"]
    assert "workflow.completed" in {entry["name"] for entry in logged}
    assert (await ann.post(f"{path}/deliveries/{workflow_id}/1/again")).status_code == 200
    assert (await ann.post(f"{path}/deliveries/{workflow_id}/999/again")).status_code == 404
    assert (await ann.post(f"{path}/disable")).json()["webhook"]["enabled"] is False
    assert (await ann.post(f"{path}/enable")).json()["webhook"]["enabled"] is True
    for method, where in (("GET", path), ("POST", f"{path}/rotate"), ("DELETE", path), ("GET", f"{path}/deliveries")):
        assert (await bob.request(method, where)).status_code == 404
    assert (await ann.post("/webhooks", json={"url": "http://10.0.0.1/"})).status_code == 400
    assert (await ann.post("/webhooks", json={"url": "https://a.example/", "events": ["x"]})).status_code == 400
    assert (await ann.delete(path)).status_code == 200


async def test_a_stranger_and_an_unknown_webhook_look_the_same(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    for webhook_id, user in ((made.id, "bob"), ("whk_none", "ann")):
        with pytest.raises(NotFound):
            await post.webhooks.get(webhook_id, user)


# ---- secrets at rest ----


async def kept_secret(post: Post, webhook_id: str) -> str:
    async with post.database.connection() as connection:
        found: str = await connection.fetchval("select secret from workflow.webhook where id = $1", webhook_id)
        return found


async def set_secret(post: Post, webhook_id: str, secret: str) -> None:
    async with post.database.connection() as connection:
        await connection.execute("update workflow.webhook set secret = $2 where id = $1", webhook_id, secret)


async def test_the_database_never_has_a_secret_as_it_is(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    rotated = await post.webhooks.rotate(made.id, "ann")
    for webhook in (made, rotated):
        assert webhook.secret.startswith("whsec_")
    kept = await kept_secret(post, made.id)
    assert kept.startswith("sealed:")
    async with post.database.connection() as connection:
        for row in await connection.fetch("select w::text as w from workflow.webhook w"):
            assert made.secret.removeprefix("whsec_") not in row["w"]
            assert rotated.secret.removeprefix("whsec_") not in row["w"]
    # What is read back has it sealed; a message is signed with it all the same.
    assert (await post.webhooks.get(made.id, "ann")).secret == kept
    await post.event()
    await post.later(1)
    ((headers, body),) = post.receiver.got
    assert check(headers, body, post.clock.now().timestamp(), secret=rotated.secret)


async def test_secrets_from_before_there_was_a_key_are_sealed_and_still_sign(post: Post) -> None:
    made = await post.webhooks.create("ann", post.url)
    await set_secret(post, made.id, made.secret)
    await post.event()
    await post.later(1)
    assert await SECRETS.seal_plain(post.database) == 1
    assert await SECRETS.seal_plain(post.database) == 0
    assert (await kept_secret(post, made.id)).startswith("sealed:")
    await post.event("wf_2")
    await post.later(1)
    now = post.clock.now().timestamp()
    assert [check(headers, body, now, secret=made.secret) for headers, body in post.receiver.got] == [
        "evt_wf_1_1", "evt_wf_2_1",
    ]  # fmt: skip


async def test_a_host_with_another_key_leaves_deliveries_to_the_one_that_has_it(post: Post) -> None:
    await post.webhooks.create("ann", post.url)
    await post.event()
    other = Secrets(Sealer(b"\x08" * 32, SeededEntropy(8)))
    post.clock.advance(1)
    assert await Deliverer(post.database, post.http, SIGNER, other, clock=post.clock).tick() == 0
    assert await other.seal_plain(post.database) == 0
    assert await post.deliverer.tick() == 1


async def test_a_secret_moved_to_another_webhook_opens_nothing(post: Post) -> None:
    first, second = [await post.webhooks.create("ann", post.url, ["workflow.planning"]) for _ in range(2)]
    await set_secret(post, second.id, await kept_secret(post, first.id))
    await post.event()
    assert await post.later(1) == 2
    assert len(post.receiver.got) == 1
    (entry,) = await post.webhooks.log(second.id, "ann")
    assert (entry.state, entry.status) == ("waiting", None)
    assert "cannot be opened" in entry.answer
