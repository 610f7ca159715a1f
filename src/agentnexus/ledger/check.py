"""`nexus ledger check`: every figure that the ledger keeps is worked out again from the rows it came from."""

from __future__ import annotations

from agentnexus.ledger.checkpoints import RULE as CHECKPOINTS
from agentnexus.ledger.model import CheckReport, Finding
from agentnexus.platform.database import Connection, Database

FINDINGS_MAX = 100  # per rule; the first hundred say enough

# A reservation moves the counters of every budget on its path, under the labels that `limits.counted_in` gives.
MOVED = """
    select n.id as budget_id, n.limits, r.task, r.tick, r.seller, r.capability, r.created_at at time zone 'UTC' as at,
           case when r.state = 'pending' then r.amount else 0 end as reserved, r.captured - r.returned as spent
    from ledger.reservation r
    join ledger.budget leaf on leaf.id = r.budget_id
    cross join unnest(leaf.path) as node_id
    join ledger.budget n on n.id = node_id
"""

COUNTED = f"""
    select x.budget_id, s.scope, s.label, sum(x.reserved) as reserved, sum(x.spent) as spent
    from ({MOVED}) x
    cross join lateral (values
        ('task', 'per_task', x.task), ('tick', 'per_tick', x.tick), ('seller', 'per_seller', x.seller),
        ('capability', 'per_capability', x.capability),
        ('minute', 'per_hour', to_char(x.at, 'YYYY-MM-DD"T"HH24:MI')),
        ('day', 'per_day', to_char(x.at, 'YYYY-MM-DD'))) s (scope, limit_name, label)
    where x.limits ? s.limit_name group by x.budget_id, s.scope, s.label
"""  # noqa: S608 - constant SQL
RECOUNT = f"""insert into ledger.budget_use (budget_id, scope, label, reserved, spent)
select * from ({COUNTED}) counted where budget_id = $1"""  # noqa: S608 - constant SQL

# Each rule gives rows (subject, expected, found) for what breaks it. Money that came back and went again may pass
# limits, by no more than that.
RULES: dict[str, str] = {
    "entries of an asset sum to zero": """
        select asset as subject, 0 as expected, sum(amount) as found
        from ledger.entry group by asset having sum(amount) <> 0""",
    "a transfer has its two legs": """
        select t.id as subject, t.amount as expected, coalesce(e.credited, 0) as found
        from ledger.transfer t
        left join (select transfer_id, count(*) as legs, sum(amount) as net,
                          sum(amount) filter (where amount > 0) as credited
                   from ledger.entry group by transfer_id) e on e.transfer_id = t.id
        where e.legs is distinct from 2 or e.net <> 0 or e.credited <> t.amount""",
    "an entry has its transfer and account": """
        select e.transfer_id || ' ' || e.account as subject, e.amount as expected, 0 as found
        from ledger.entry e
        left join ledger.transfer t on t.id = e.transfer_id and t.asset = e.asset and e.account in (t.debit, t.credit)
        left join ledger.account a on a.name = e.account and a.asset = e.asset
        where t.id is null or a.name is null""",
    "a balance is the sum of its entries": """
        select a.name || ' ' || a.asset as subject, coalesce(e.total, 0) as expected, a.balance as found
        from ledger.account a
        left join (select account, asset, sum(amount) as total from ledger.entry group by account, asset) e
          on e.account = a.name and e.asset = a.asset
        where a.balance <> coalesce(e.total, 0)""",
    "a checkpoint is the sum of the entries until then": CHECKPOINTS,
    "reserved is the sum of pending reservations": """
        select coalesce(a.name || ' ' || a.asset, r.payer || ' ' || r.asset) as subject,
               coalesce(r.total, 0) as expected, coalesce(a.reserved, 0) as found
        from ledger.account a
        full join (select payer, asset, sum(amount) as total from ledger.reservation
                   where state = 'pending' group by payer, asset) r on r.payer = a.name and r.asset = a.asset
        where coalesce(a.reserved, 0) <> coalesce(r.total, 0)""",
    "an account covers what it promised": """
        select name || ' ' || asset as subject, reserved as expected, balance as found
        from ledger.account where not overdraft and balance < reserved""",
    "a posted reservation is one capture": """
        select coalesce(r.key, t.key) as subject, coalesce(r.captured, 0) as expected, coalesce(t.amount, 0) as found
        from (select * from ledger.reservation where state = 'posted') r
        full join (select * from ledger.transfer where kind = 'capture') t on t.key = r.key
        where r.key is null or t.key is null or t.amount <> r.captured or t.asset <> r.asset
           or t.debit <> r.payer or t.credit <> r.payee""",
    "what came back is the transfers that say so": """
        select coalesce(r.key, t.reservation) as subject, coalesce(t.total, 0) as expected,
               coalesce(r.returned, 0) as found
        from (select key, returned from ledger.reservation where returned <> 0) r
        full join (select t.reservation, sum(case when t.credit = p.payer then t.amount else -t.amount end) as total
                   from ledger.transfer t left join ledger.reservation p on p.key = t.reservation
                   where t.reservation <> '' group by t.reservation) t on t.reservation = r.key
        where coalesce(r.returned, 0) <> coalesce(t.total, 0)""",
    "what went again is the transfers that say so": """
        select b.id as subject, coalesce(t.total, 0) as expected, b.again as found
        from ledger.budget b
        left join (select node_id, sum(t.amount) as total
                   from ledger.transfer t join ledger.reservation r on r.key = t.reservation and r.payer = t.debit
                   join ledger.budget leaf on leaf.id = r.budget_id
                   cross join unnest(leaf.path) as node_id group by node_id) t on t.node_id = b.id
        where b.again <> coalesce(t.total, 0)""",
    "a reservation's budget exists": """
        select r.key as subject, r.amount as expected, 0 as found from ledger.reservation r
        left join ledger.budget b on b.id = r.budget_id where r.budget_id is not null and b.id is null""",
    "a budget's sums are its reservations": f"""
        select b.id as subject, coalesce(m.reserved + m.spent, 0) as expected, b.reserved + b.spent as found
        from ledger.budget b
        left join (select budget_id, sum(reserved) as reserved, sum(spent) as spent
                   from ({MOVED}) x group by budget_id) m
          on m.budget_id = b.id
        where b.reserved <> coalesce(m.reserved, 0) or b.spent <> coalesce(m.spent, 0)""",  # noqa: S608 - constant SQL
    "a counter is its reservations": f"""
        select coalesce(u.budget_id, m.budget_id) || ' ' || coalesce(u.scope, m.scope) || ' '
               || coalesce(u.label, m.label) as subject,
               coalesce(m.reserved + m.spent, 0) as expected, coalesce(u.reserved + u.spent, 0) as found
        from ledger.budget_use u
        full join (
            {COUNTED}) m
          on m.budget_id = u.budget_id and m.scope = u.scope and m.label = u.label
        where coalesce(u.reserved, 0) <> coalesce(m.reserved, 0)
           or coalesce(u.spent, 0) <> coalesce(m.spent, 0)""",  # noqa: S608 - constant SQL
    "a budget is within its total": """
        select id as subject, spendable + again as expected, reserved + spent as found
        from ledger.budget where reserved + spent > spendable + again""",
    "a counter is within its limit": """
        select u.budget_id || ' ' || u.scope || ' ' || u.label as subject,
               (b.limits ->> ('per_' || u.scope))::numeric + b.again as expected, u.reserved + u.spent as found
        from ledger.budget_use u join ledger.budget b on b.id = u.budget_id
        where u.scope <> 'minute' and not b.limits ? 'changed_at'
          and u.reserved + u.spent > (b.limits ->> ('per_' || u.scope))::numeric + b.again""",
    "no 60 minutes pass their limit": """
        select h.budget_id || ' until ' || h.label as subject,
               (b.limits ->> 'per_hour')::numeric + b.again as expected, h.used as found
        from (select budget_id, label, sum(reserved + spent) over (
                  partition by budget_id order by label::timestamp
                  range between interval '60 minutes' preceding and current row) as used
              from ledger.budget_use where scope = 'minute') h
        join ledger.budget b on b.id = h.budget_id
        where h.used > (b.limits ->> 'per_hour')::numeric + b.again and not b.limits ? 'changed_at'""",
    "a single payment is within its limit": """
        select r.key as subject, (n.limits ->> 'per_payment')::numeric as expected, r.amount as found
        from ledger.reservation r join ledger.budget leaf on leaf.id = r.budget_id
        cross join unnest(leaf.path) as node_id join ledger.budget n on n.id = node_id
        where r.amount > (n.limits ->> 'per_payment')::numeric
          and r.created_at >= coalesce((n.limits ->> 'changed_at')::timestamptz, r.created_at)""",
}

COUNTS = """
select (select count(*) from ledger.account) as accounts, (select count(*) from ledger.transfer) as transfers,
       (select count(*) from ledger.reservation) as reservations, (select count(*) from ledger.budget) as budgets
"""


async def check_ledger(db: Database) -> CheckReport:
    """Run every rule on one consistent snapshot; other processes may go on writing meanwhile."""
    async with (
        db.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        counts = await connection.fetchrow(COUNTS)
        assert counts is not None
        findings = [finding for rule, sql in RULES.items() for finding in await _broken(connection, rule, sql)]
    return CheckReport(
        accounts=counts["accounts"],
        transfers=counts["transfers"],
        reservations=counts["reservations"],
        budgets=counts["budgets"],
        findings=tuple(findings),
    )


async def _broken(connection: Connection, rule: str, sql: str) -> list[Finding]:
    rows = await connection.fetch(f"select * from ({sql}) broken limit {FINDINGS_MAX}")  # noqa: S608 - constant SQL
    return [Finding(rule, row["subject"], str(row["expected"]), str(row["found"])) for row in rows]
