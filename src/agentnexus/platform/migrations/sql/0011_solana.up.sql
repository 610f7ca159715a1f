-- Solana: what this node signed, kept before it leaves, and what arrived at its addresses.
create schema solana;

-- One transaction per key, for ever: two of them could both go through, as no nonce ties them together.
create table solana.outgoing (
    network                 text not null,
    key                     text not null,
    intent                  text not null,  -- what was asked for: one key never means two things
    payer                   text not null,
    signature               text not null unique,
    wire                    bytea not null,
    blockhash               text not null,
    last_valid_block_height bigint not null,
    opened_slot             bigint not null,
    state                   text not null check (state in ('signed', 'succeeded', 'failed', 'expired')),
    slot                    bigint,
    error                   text,
    created_at              timestamptz not null default now(),
    updated_at              timestamptz not null default now(),
    primary key (network, key)
);
create index outgoing_unfinished on solana.outgoing (network, payer, created_at) where state = 'signed';

-- How far a watcher has read an account's transactions; null until the first one.
create table solana.cursor (
    name      text not null,
    network   text not null,
    account   text not null,
    signature text,
    slot      bigint not null,
    primary key (name, network, account)
);

create table solana.deposit (
    name      text not null,
    network   text not null,
    signature text not null,
    recipient text not null,
    asset     text not null,
    sender    text not null,
    amount    numeric(78, 0) not null check (amount > 0),
    slot      bigint not null,
    sent_at   timestamptz not null,
    primary key (name, network, signature, recipient, asset)
);
