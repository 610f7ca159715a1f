"""What `nexus offers` prints: every offer with its seller, and the markets that did not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from agentnexus.cli.hire import hire, offers
from agentnexus.hiring.model import RankedOffer
from tests.hiring.support import make_offer

DOWN = {"market": "x402", "reason": "no complete answer within 2 s"}


class Answers:
    """A node whose every answer is `body`. `asked` are the queries of the requests, `sent` their methods and bodies."""

    def __init__(self, body: object) -> None:
        self.body = body
        self.asked: list[dict[str, list[str]]] = []
        self.sent: list[tuple[str, object]] = []

    @contextmanager
    def served(self) -> Iterator[str]:
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.do_GET = self.do_PUT = self.do_POST = self.do_DELETE = self.answer
                super().handle_one_request()

            def answer(self) -> None:
                answers.asked.append(parse_qs(urlsplit(self.path).query))
                given = self.rfile.read(int(self.headers.get("content-length", 0)))
                answers.sent.append((self.command, json.loads(given) if given else None))
                data = json.dumps(answers.body).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Into no test's output."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()


def ranked(number: int = 1, **changes: object) -> dict[str, object]:
    offer = make_offer(number, **changes)  # type: ignore[arg-type]  # passed on
    return RankedOffer(
        offer=offer, seller=offer.seller.key, price_usd=offer.price.maximum.decimal, value_score=1.0, price_score=1.0,
        reputation_score=0.7, latency_score=0.5, score=1.0, reputation=3.5, new=True, reasons=("the cheapest",),
    ).to_json()  # fmt: skip


def ask(answers: Answers, *arguments: str) -> Result:
    with answers.served() as url:
        return CliRunner().invoke(offers, ["text.echo", *arguments], env={"NEXUS_API_URL": url}, standalone_mode=False)


def test_each_offer_is_shown_with_its_seller() -> None:
    found = ask(Answers({"data": [ranked(1), ranked(2)], "missing": []}))
    assert f"from seller 1, {ranked(1)['seller']}" in found.stdout
    assert f"from seller 2, {ranked(2)['seller']}" in found.stdout
    assert found.stderr == ""


def test_a_seller_without_a_name_is_shown_by_its_key() -> None:
    nameless = ranked(1, seller={"ids": {"evm": "0x" + "0" * 39 + "1"}})
    assert f"from {nameless['seller']}\n" in ask(Answers({"data": [nameless], "missing": []})).stdout


def test_a_market_that_did_not_answer_is_named_beside_the_offers() -> None:
    found = ask(Answers({"data": [ranked(1)], "missing": [DOWN]}))
    assert "x402 did not answer: no complete answer within 2 s" in found.stderr
    assert "seller 1" in found.stdout


def test_nothing_found_while_a_market_is_down_is_not_nobody() -> None:
    found = ask(Answers({"data": [], "missing": [DOWN]}))
    assert "nobody else sells 'text.echo' right now; try again when x402 answers" in found.stdout
    assert "nobody sells" in ask(Answers({"data": [], "missing": []})).stdout


def test_the_json_is_the_list_of_offers_whatever_is_missing() -> None:
    found = ask(Answers({"data": [ranked(1)], "missing": [DOWN]}), "--json")
    assert json.loads(found.stdout) == [ranked(1)]
    assert "x402" in found.stderr


def test_what_strangers_write_cannot_steer_the_terminal() -> None:
    loud = ranked(1, seller={"ids": {"evm": "0x" + "0" * 39 + "1"}, "name": "\x1b[2Jclean"})
    found = ask(Answers({"data": [loud], "missing": [{"market": "x402", "reason": "\x1b]0;gone"}]}))
    assert "\x1b" not in found.stdout
    assert "\x1b" not in found.stderr


def test_what_limits_left_out_is_told_when_nobody_is_left() -> None:
    found = ask(Answers({"data": [], "missing": [], "left_out": {"reputation": 3}}), "--min-reputation", "5")
    assert "3 left out: reputation" in found.stdout


def test_limits_go_along_each_as_often_as_it_was_given() -> None:
    answers = Answers({"data": [], "missing": []})
    given = "--market x402 --market catalogue --network eip155:8453 --region eu --min-reputation 4 --max-price 0.05"
    ask(answers, *given.split())
    assert answers.asked == [
        {
            "need": ["text.echo"], "strategy": ["value"], "market": ["x402", "catalogue"], "network": ["eip155:8453"],
            "region": ["eu"], "min_reputation": ["4.0"], "max_price": ["0.05"],
        }
    ]  # fmt: skip


def test_a_hire_takes_the_same_limits_and_a_policy() -> None:
    answers = Answers({"data": {"receipt": {}, "output": {}}})
    given = "text.echo --input {} --max-price 0.05 --policy cheapest --min-reputation 4 --market x402 --json"
    with answers.served() as url:
        CliRunner().invoke(hire, given.split(), env={"NEXUS_API_URL": url}, standalone_mode=False)
    (sent,) = answers.sent
    assert sent == (
        "POST",
        {
            "need": "text.echo", "input": {}, "max_price": "0.05", "key": "", "strategy": "value", "policy": "cheapest",
            "min_reputation": 4.0, "market": ["x402"],
        },
    )  # fmt: skip


@pytest.mark.parametrize("strategy", ["value", "price"])
def test_the_strategy_goes_along(strategy: str) -> None:
    answers = Answers({"data": [], "missing": []})
    ask(answers, "--strategy", strategy)
    assert answers.asked == [{"need": ["text.echo"], "strategy": [strategy]}]
