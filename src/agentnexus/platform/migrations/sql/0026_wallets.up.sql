-- Smart accounts of users and what they sent, see wallets/store.py.
create schema wallet;

-- One account per user and network. `sealed_key` opens only in its own place (platform/sealing.py), and only accounts
-- that this node signs for have one. `proven_at`: a signature by the owner was seen, so the account is really the user's.
create table wallet.account (
    id text primary key,
    user_id text not null,
    network text not null,
    address text not null,
    kind text not null check (kind in ('server', 'passkey', 'key', 'delegated')),
    owner_key text not null,
    owner_x bytea not null,
    owner_y bytea not null,
    credential_id text not null default '',
    sealed_key text check ((sealed_key is not null) = (kind = 'server')),
    proven_at timestamptz,
    created_at timestamptz not null,
    exported_at timestamptz,
    scanned_to bigint not null,
    unique (user_id, network)
);
create index account_of_address on wallet.account (network, address);

-- What an account does. All forms that are ever built for an operation have one nonce (a lane of its own), so the chain
-- takes at most one of them. `body` is the newest form: with its signature from `signed` on, before it leaves.
-- `builder_until`: somebody builds it now. `closed`: nothing can change any more, not even by a reorganisation.
create table wallet.operation (
    id text primary key,
    wallet_id text not null references wallet.account on delete cascade,
    user_id text not null,
    key text not null,
    purpose text not null,
    title text not null,
    gas text not null check (gas in ('sponsor', 'usdc', 'account')),
    calls jsonb not null,
    state text not null check (state in ('unsigned', 'signed', 'succeeded', 'failed', 'rejected')),
    body jsonb,
    hash text not null default '',
    valid_until timestamptz,
    from_block bigint not null default 0,
    renewals integer not null default 0,
    builder_until timestamptz,
    transaction text not null default '',
    block_number bigint,
    gas_cost_wei numeric(78, 0),
    error jsonb,
    closed boolean not null default false,
    look_at timestamptz not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (user_id, key),
    check (state = 'unsigned' or body is not null or state = 'rejected')
);
create index operation_of_wallet on wallet.operation (wallet_id, created_at desc, id desc);
create index operation_open on wallet.operation (look_at) where not closed;

-- USDC that came to or left an account, however it did; read from the chain's events.
create table wallet.transfer (
    wallet_id text not null references wallet.account on delete cascade,
    block_number bigint not null,
    block_hash text not null,
    log_index integer not null,
    transaction text not null,
    payer text not null,
    payee text not null,
    amount numeric(78, 0) not null check (amount >= 0),
    at timestamptz not null,
    primary key (wallet_id, block_number, log_index)
);
create index transfer_of_wallet on wallet.transfer (wallet_id, at desc, block_number desc, log_index desc);
