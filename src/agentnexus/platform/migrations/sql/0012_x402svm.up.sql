-- x402 payments on Solana: what buyers signed, what facilitators sent.
create schema x402svm;

-- One signed transaction per payment, for ever: two of them could both be collected, as no nonce ties them together.
create table x402svm.authorization (
    key                     text primary key,
    network                 text not null,
    message_hash            text not null unique,
    payload                 text not null,  -- base64, slot 0 empty
    last_valid_block_height bigint not null,
    opened_slot             bigint not null,
    created_at              timestamptz not null default now()
);

-- One row per payment that was sent for a seller, written before it leaves: a repeat finds its transaction here.
create table x402svm.settlement (
    payment_id              text primary key,
    claim                   text not null,
    network                 text not null,
    transaction             text not null,
    wire                    bytea not null,
    last_valid_block_height bigint not null,
    state                   text not null check (state in ('sending', 'pending', 'settled', 'failed')),
    tries                   integer not null default 1,
    reason                  text not null default '',
    message                 text not null default '',
    lease_until             timestamptz not null,
    created_at              timestamptz not null default now(),
    updated_at              timestamptz not null default now()
);
create index settlement_open on x402svm.settlement (network, updated_at) where state in ('sending', 'pending');
create index settlement_ended on x402svm.settlement (updated_at) where state in ('settled', 'failed');
