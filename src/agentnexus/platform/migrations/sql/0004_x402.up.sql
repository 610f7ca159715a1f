create schema x402;

-- One row per payment that a client presented to this seller: reserved before the handler runs, so that copies of one
-- payment run it once, and kept so that a repeat is answered from here.
create table x402.reservation (
    payment_id   text primary key,
    client_key   text unique,
    payload_hash text not null,
    request_hash text not null,
    resource     text not null,
    state        text not null check (state in ('running', 'failed', 'delivered', 'refused', 'paid', 'settled')),
    owner        text not null,
    lease_until  timestamptz not null,
    status       integer check (status between 100 and 599),
    headers      jsonb,
    body         bytea,
    settlement   jsonb,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    check (state not in ('paid', 'settled') or settlement is not null),
    check (state <> 'failed' or status is not null)
);

create index reservation_updated_at on x402.reservation (updated_at);
