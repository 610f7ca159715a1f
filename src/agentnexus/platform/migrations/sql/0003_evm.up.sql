-- Up: evm. What this node signed for EVM chains, kept before it leaves, and what it saw arrive there.
create schema evm;

-- A network name says which rules a chain follows; the genesis hash says which chain it is.
create table evm.chain (
    network text primary key,
    genesis_hash text not null,
    seen_at timestamptz not null default now()
);

-- One row per signing address: the lock that makes nonces gapless across processes.
create table evm.sender (
    network text not null,
    address text not null,
    next_nonce bigint not null check (next_nonce >= 0),
    free_nonces bigint[] not null default '{}',
    primary key (network, address)
);

create table evm.outgoing (
    network text not null,
    key text not null,
    sender text not null,
    nonce bigint not null check (nonce >= 0),
    target text not null,
    data bytea not null,
    value numeric(78, 0) not null,
    gas bigint not null,
    max_fee_wei numeric(78, 0) not null,
    priority_fee_wei numeric(78, 0) not null,
    raw bytea not null,
    transactions text[] not null check (cardinality(transactions) > 0),
    state text not null check (state in ('signed', 'succeeded', 'reverted', 'rejected')),
    mined_transaction text,
    block_number bigint,
    error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (network, key)
);
create unique index outgoing_nonce on evm.outgoing (network, sender, nonce) where state <> 'rejected';
create index outgoing_unfinished on evm.outgoing (network, sender, nonce) where state = 'signed';

-- One row per authorisation handed to us, whatever number of tries it took.
create table evm.settlement (
    network text not null,
    token text not null,
    payer text not null,
    nonce bytea not null check (octet_length(nonce) = 32),
    payee text not null,
    value numeric(78, 0) not null check (value >= 0),
    attempt integer not null default 1 check (attempt > 0),
    outgoing_key text not null,
    created_at timestamptz not null default now(),
    primary key (network, token, payer, nonce)
);

-- How far a watcher has read, by block hash, so that a reorganisation is noticed.
create table evm.cursor (
    name text not null,
    network text not null,
    block_number bigint not null,
    block_hash text not null,
    primary key (name, network, block_number)
);

create table evm.transfer (
    name text not null,
    network text not null,
    token text not null,
    transaction text not null,
    log_index integer not null,
    block_number bigint not null,
    block_hash text not null,
    payer text not null,
    payee text not null,
    value numeric(78, 0) not null,
    state text not null check (state in ('seen', 'deposited', 'removed')),
    primary key (name, network, transaction, log_index, block_hash)
);
create index transfer_state on evm.transfer (name, network, state, block_number);
