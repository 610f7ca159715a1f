-- Up: paymaster. User operations whose gas we promised to pay. The money of it is in the ledger.
create schema paymaster;

-- What the EntryPoint holds for a paymaster, as far as the ledger was told. A step that a crash cut off is done again as
-- it was meant: `next_total` is null in between steps.
create table paymaster.treasury (
    network text not null,
    paymaster text not null,
    step bigint not null default 0,
    total numeric(78, 0) not null default 0,
    next_total numeric(78, 0),
    primary key (network, paymaster)
);

-- One row per signature. `reserving`: not given away yet. `signed`: may be used until it expires. `used`: on the chain.
-- `released`: can be used no more. A signature's hour is cut into windows, so the same operation asked for twice in one
-- window has the same hash and is the same row.
create table paymaster.sponsorship (
    network text not null,
    paymaster text not null,
    user_operation_hash text not null,
    sender text not null,
    nonce numeric(78, 0) not null check (nonce >= 0),
    user_id text not null,
    policy text not null,
    maximum_cost numeric(78, 0) not null check (maximum_cost > 0),
    valid_until timestamptz not null,
    paymaster_data bytea not null,
    state text not null check (state in ('reserving', 'signed', 'used', 'released')),
    actual_cost numeric(78, 0),
    succeeded boolean,
    transaction text,
    created_at timestamptz not null,
    ended_at timestamptz,
    primary key (network, paymaster, user_operation_hash)
);
create index sponsorship_of_nonce on paymaster.sponsorship (network, paymaster, sender, nonce);
create index sponsorship_unfinished on paymaster.sponsorship (network, paymaster, valid_until)
    where state in ('reserving', 'signed');
create index sponsorship_of_user on paymaster.sponsorship (user_id, created_at desc);
