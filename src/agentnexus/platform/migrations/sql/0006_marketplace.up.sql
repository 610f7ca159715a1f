create schema marketplace;

-- One row per agent of this node: what its newest version says, who is paid, and what its runs were like.
create table marketplace.listing (
    id             text primary key check (id <> ''),
    version        text not null,
    status         text not null check (status in
                       ('draft', 'pending_review', 'approved', 'active', 'maintenance', 'deprecated', 'suspended')),
    title          text not null,
    summary        text not null,
    description    text not null,
    categories     text[] not null,
    tags           text[] not null,
    capability     text not null,
    price_atomic   numeric(78, 0) not null check (price_atomic > 0),
    asset          text not null,
    asset_symbol   text not null,
    asset_decimals integer not null,
    seller         text not null,
    developer      text not null,
    accepts        jsonb not null,
    manifest       jsonb not null,
    code_hash      text not null,
    input_schema   jsonb not null,
    output_schema  jsonb not null,
    words          tsvector not null,
    trigrams       text[] not null,
    runs           bigint not null default 0 check (runs >= succeeded),
    succeeded      bigint not null default 0 check (succeeded >= 0),
    average_ms     integer,
    p95_ms         integer,
    rating_sum     bigint not null default 0,
    rating_count   bigint not null default 0,
    created_at     timestamptz not null,
    updated_at     timestamptz not null
);
create index listing_words on marketplace.listing using gin (words);
create index listing_trigrams on marketplace.listing using gin (trigrams);
create index listing_capability on marketplace.listing (capability) where status = 'active';

-- Every version that was ever listed, so that a run can be traced to the code that made it.
create table marketplace.version (
    agent_id      text not null references marketplace.listing on delete cascade,
    version       text not null,
    code_hash     text not null,
    manifest      jsonb not null,
    input_schema  jsonb not null,
    output_schema jsonb not null,
    created_at    timestamptz not null,
    primary key (agent_id, version, code_hash)
);

-- One run of an agent. `key` makes a repeat the same run; the lease says which process works on it now.
create table marketplace.execution (
    id           text primary key,
    key          text not null unique check (key <> ''),
    agent_id     text not null,
    version      text not null,
    code_hash    text not null,
    user_id      text not null,
    input_hash   text not null,
    status       text not null check (status in ('queued', 'running', 'completed', 'failed', 'timeout', 'cancelled')),
    attempts     integer not null default 1 check (attempts > 0),
    owner        text not null,
    lease_until  timestamptz not null,
    cancel_asked boolean not null default false,
    output       bytea,
    error        jsonb,
    metering     jsonb not null default '{}',
    created_at   timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz,
    duration_ms  integer,
    check ((status = 'completed') = (output is not null)),
    check ((status in ('queued', 'running')) = (finished_at is null))
);
create index execution_of_agent on marketplace.execution (agent_id, finished_at desc) where finished_at is not null;

create index execution_open on marketplace.execution (lease_until) where finished_at is null;

create table marketplace.execution_event (
    execution_id text not null references marketplace.execution on delete cascade,
    sequence     integer not null check (sequence > 0),
    name         text not null,
    at           timestamptz not null,
    data         jsonb not null,
    primary key (execution_id, sequence)
);
