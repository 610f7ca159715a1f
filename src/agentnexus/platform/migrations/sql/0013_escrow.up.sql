create schema escrow;

-- A prepaid account. Money is in the ledger (account `escrow:<user>`); here is who owns it and what it was made of.
create table escrow.account (
    user_id    text primary key check (user_id <> ''),
    wallet     text not null,
    network    text not null,
    created_at timestamptz not null,
    unique (network, wallet)
);

-- A claimed transaction, once and for one user. `credited_at` is null while a crash stands between claim and ledger.
create table escrow.deposit (
    network     text not null,
    signature   text not null,
    user_id     text not null references escrow.account (user_id),
    asset       jsonb not null,
    atomic      numeric(78, 0) not null check (atomic > 0),
    sent_at     timestamptz not null,
    claimed_at  timestamptz not null,
    credited_at timestamptz,
    primary key (network, signature)
);

-- Money set aside for one piece of work (a workflow); its rest is in the ledger account `escrow-hold:<reference>`.
-- `opening` counts how often it was begun: a plan that is edited lets go of its money and sets another sum aside.
create table escrow.hold (
    reference text primary key,
    user_id   text not null references escrow.account (user_id),
    asset     jsonb not null,
    atomic    numeric(78, 0) not null check (atomic > 0),
    state     text not null check (state in ('opening', 'refused', 'open', 'closing', 'closed')),
    opening   integer not null default 1,
    opened_at timestamptz not null
);
create index hold_unfinished on escrow.hold (opened_at) where state in ('opening', 'open', 'closing');
create index hold_of_user on escrow.hold (user_id) where state in ('open', 'closing');

create table escrow.withdrawal (
    id          text primary key,
    user_id     text not null references escrow.account (user_id),
    request     jsonb not null,
    state       text not null check (state in ('reserved', 'sent', 'unknown', 'confirmed', 'failed')),
    payment     jsonb,
    reason      text not null default '',
    opened_at   timestamptz not null,
    finished_at timestamptz
);
create index withdrawal_unfinished on escrow.withdrawal (opened_at) where finished_at is null;

-- What the owner reads as history: one line per movement, written after the ledger has it. Never changed.
create table escrow.entry (
    position  bigint generated always as identity primary key,
    key       text not null unique,
    user_id   text not null references escrow.account (user_id),
    kind      text not null check (kind in ('deposit', 'withdrawal', 'reserved', 'charged', 'released')),
    asset     jsonb not null,
    atomic    numeric(78, 0) not null,
    signature text not null default '',
    reference text not null default '',
    at        timestamptz not null
);
create index entry_of_user on escrow.entry (user_id, position desc);
