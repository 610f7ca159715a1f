"""Who pays for gas, from the paymaster's own description: in a sentence, in a few lines, and as choices of a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Context, Decimal
from typing import Final

from agentnexus.web.views.wallet import GasView

PAYERS: Final = {"sponsor": "AgentNexus", "usdc": "the wallet, in USDC", "account": "the wallet, in the chain's coin"}


def gas_view(description: Mapping[str, object], coin: str) -> GasView:
    """`description` as `PaymasterService.describe` has it; empty where nobody pays for others."""
    policies = _mappings(description.get("policies"))
    free = [each for each in policies if each.get("paid_in") is None]
    sold = [each for each in policies if each.get("paid_in") is not None]
    own = f"The wallet pays, in {coin}"
    choices = [("sponsor", "AgentNexus pays")] if free else []
    choices += [("usdc", "The wallet pays, in USDC")] if sold else []
    ours = f"paid by AgentNexus ({_left_today(free[0])} {coin} left today)" if free else ""
    sentence = ours or f"paid by the wallet, in {coin}"
    return GasView(sentence, [_policy(each, coin) for each in free], [*choices, ("account", own)], bool(sold))


def _policy(policy: Mapping[str, object], coin: str) -> tuple[str, Sequence[str]]:
    lines = [f"at most {policy.get('per_operation')} {coin} for one operation"]
    lines += [f"at most {policy.get('per_user_day')} {coin} a day for you; {_left_today(policy)} {coin} are left"]
    return str(policy.get("title")), lines


def _left_today(policy: Mapping[str, object]) -> str:
    """The least of what is left for this person and for everybody."""
    left = policy.get("left")
    known = left if isinstance(left, Mapping) else {}
    whole = {"you": policy.get("per_user_day"), "everybody": policy.get("per_day")}
    if "newcomers" in known:
        whole["newcomers"] = policy.get("newcomers_per_day")
    amounts = [
        status["per_day"] if isinstance(status := known.get(whose), Mapping) and "per_day" in status else most
        for whose, most in whole.items()
    ]
    return short(min(Decimal(str(each)) for each in amounts))


def short(amount: Decimal) -> str:
    """Coin for people: four digits, never more than there is."""
    rounded = amount.normalize(Context(prec=4, rounding=ROUND_DOWN))
    return f"{rounded:f}"


def _mappings(value: object) -> list[Mapping[str, object]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
