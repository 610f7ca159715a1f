-- up: ledger. Double entry, reservations and budgets. Amounts are atomic units of the asset.
create schema ledger;

create table ledger.asset (
    id text primary key,                -- CAIP-19
    symbol text not null,
    decimals int not null
);

create table ledger.account (
    name text not null,
    asset text not null references ledger.asset,
    overdraft boolean not null,         -- only accounts of the outside world may owe
    balance numeric(78, 0) not null default 0,
    reserved numeric(78, 0) not null default 0 check (reserved >= 0),
    primary key (name, asset),
    constraint account_covers check (overdraft or balance >= reserved)
) with (fillfactor = 50);

create table ledger.budget_grant (
    id text primary key,
    signer text not null,
    scheme text not null check (scheme in ('eip712', 'ed25519')),
    document jsonb not null,
    signature text not null,
    created_at timestamptz not null
);

create table ledger.budget (
    id text primary key,
    path text[] not null,               -- this budget first, its root last
    owner text not null,
    asset text not null references ledger.asset,
    limits jsonb not null,              -- name -> atomic units as text; sellers, capabilities -> array
    spendable numeric(78, 0),           -- total - keep_back
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    grant_id text unique references ledger.budget_grant,
    reserved numeric(78, 0) not null default 0 check (reserved >= 0),
    spent numeric(78, 0) not null default 0 check (spent >= 0),
    constraint budget_total check (spendable is null or reserved + spent <= spendable)
) with (fillfactor = 50);
create index budget_path on ledger.budget using gin (path);
create index budget_owner on ledger.budget (owner, created_at);

create table ledger.budget_use (
    budget_id text not null references ledger.budget,
    scope text not null,
    label text not null,
    reserved numeric(78, 0) not null default 0 check (reserved >= 0),
    spent numeric(78, 0) not null default 0 check (spent >= 0),
    primary key (budget_id, scope, label)
) with (fillfactor = 50);

-- The tables below are written hundreds of rows per flush, always from rows that the flush has locked: foreign keys would
-- only repeat that per row (and share-lock the hot rows), so `nexus ledger check` proves the references instead.
create table ledger.reservation (
    key text primary key,
    budget_id text,
    payer text not null,
    payee text not null,
    asset text not null,
    amount numeric(78, 0) not null check (amount > 0),
    seller text not null,
    capability text not null,
    task text not null,
    tick text not null,
    rail text not null,
    state text not null check (state in ('pending', 'posted', 'voided')),
    captured numeric(78, 0) not null default 0 check (captured between 0 and amount),
    created_at timestamptz not null,
    expires_at timestamptz,
    auto_void boolean not null,
    correlation text not null,
    resolved_at timestamptz,
    reason text not null default '',
    constraint reservation_captured check ((state = 'posted') = (captured > 0))
) with (fillfactor = 70);
create index reservation_pending on ledger.reservation (created_at) where state = 'pending';
create index reservation_budget on ledger.reservation (budget_id, created_at);

create table ledger.transfer (
    id text primary key,
    kind text not null,
    key text not null,
    debit text not null,
    credit text not null,
    asset text not null,
    amount numeric(78, 0) not null check (amount > 0),
    at timestamptz not null,
    correlation text not null,
    memo text not null,
    unique (key, kind),
    check (debit <> credit)
);

create table ledger.entry (
    transfer_id text not null,
    account text not null,
    asset text not null,
    amount numeric(78, 0) not null,     -- negative: left the account
    at timestamptz not null,
    primary key (account, asset, at, transfer_id)
);

create function ledger.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'ledger.% is immutable: correct it with a new transfer', tg_table_name;
end $$;
create trigger transfer_immutable before update or delete on ledger.transfer
    for each row execute function ledger.refuse_change();
create trigger entry_immutable before update or delete on ledger.entry
    for each row execute function ledger.refuse_change();

create table ledger.case (
    id text primary key,
    kind text not null check (kind in ('balance', 'stuck_reservation')),
    subject text not null,              -- account name or reservation key
    asset text not null references ledger.asset,
    expected numeric(78, 0) not null,
    observed numeric(78, 0) not null,
    detail jsonb not null,
    opened_at timestamptz not null,
    seen_at timestamptz not null,
    resolved_at timestamptz,
    resolution text not null default ''
);
create unique index case_open on ledger.case (kind, subject, asset) where resolved_at is null;
