-- up: signed approvals by whom and for whom, prices to compare with, and balances at checkpoints.

-- Wallets whose signature may approve spending for an owner. Each row was proved by the wallet's own signature.
create table ledger.approver (
    owner text not null,
    wallet text not null,               -- evm:0x… or ed25519:<hex>
    linked_at timestamptz not null,
    unlinked_at timestamptz,
    primary key (owner, wallet)
);

alter table ledger.budget_grant
    add column owner text not null default '',          -- who owns the budget that it is cut from
    add column revocation text not null default '';     -- the wallet's signature, when it was revoked by one
create index budget_grant_owner on ledger.budget_grant (owner, created_at);

-- What a hosted service would have asked for one call: the owner's own table, to compare with.
create table ledger.hosted_price (
    owner text not null,
    capability text not null,
    asset text not null references ledger.asset,
    price numeric(78, 0) not null check (price >= 0),
    primary key (owner, capability, asset)
);

-- Sums of an account's entries up to and at a moment, so that an old balance needs only the entries since the last one.
create table ledger.checkpoint (
    account text not null,
    asset text not null,
    at timestamptz not null,
    balance numeric(78, 0) not null,
    primary key (account, asset, at)
);

-- Clocks of several processes differ, so an entry may be older than a checkpoint that is there: it is added to it.
create function ledger.count_late_entries() returns trigger language plpgsql as $$
begin
    update ledger.checkpoint c
    set balance = c.balance + (select sum(f.amount) from fresh f
                               where f.account = c.account and f.asset = c.asset and f.at <= c.at)
    from (select account, asset, min(at) as at from fresh group by account, asset) late
    where c.account = late.account and c.asset = late.asset and c.at >= late.at;
    return null;
end $$;
create trigger entry_late after insert on ledger.entry
    referencing new table as fresh for each statement execute function ledger.count_late_entries();

insert into ledger.checkpoint (account, asset, at, balance)
select account, asset, at, balance
from (select account, asset, at, sum(amount) over (partition by account, asset order by at) as balance,
             row_number() over (partition by account, asset order by at, transfer_id) as number
      from ledger.entry) counted
where number % 2000 = 0 on conflict do nothing;

create index transfer_fee on ledger.transfer (asset, at) where kind = 'fee';
create index reservation_resolved on ledger.reservation (budget_id, resolved_at) where state = 'posted';
