"""Hiring end to end over a real ledger: paid once, refunded when it fails, the next seller when there is one."""

from __future__ import annotations

from agentnexus.core.payments import ReceiptStatus
from agentnexus.hiring.receipts import verify_receipt
from tests.hiring.support import NEED, Economy


async def test_a_hire_pays_the_seller_once_and_gives_a_receipt_that_a_stranger_can_check(economy: Economy) -> None:
    hired = await economy.hire()

    assert hired.output == {"echo": {"text": "hello"}}
    assert hired.receipt.status is ReceiptStatus.SETTLED
    report = verify_receipt(hired.receipt.model_dump_json(), need=NEED, output=hired.output)
    assert report.valid, report.failures
    assert await economy.paid() == "0.02"
    await economy.assert_sound()
