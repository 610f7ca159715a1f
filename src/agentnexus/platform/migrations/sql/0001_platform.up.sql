create schema platform;

create table platform.blob (
    reference  text primary key check (reference ~ '^sha256:[0-9a-f]{64}$'),
    media_type text not null,
    data       bytea not null,
    size_bytes bigint generated always as (octet_length(data)) stored,
    created_at timestamptz not null default now()
);

-- Domain events leave through here: written in the transaction that caused them, read in commit order.
create table platform.outbox (
    id         bigint generated always as identity primary key,
    txid       xid8 not null default pg_current_xact_id(),
    name       text not null,
    subject    text not null,
    sequence   bigint not null,
    data       jsonb not null,
    at         timestamptz not null,
    unique (subject, sequence)
);

create table platform.outbox_cursor (
    reader     text primary key,
    last_txid  xid8 not null default '0',
    last_id    bigint not null default 0
);
create index outbox_order on platform.outbox (txid, id);
