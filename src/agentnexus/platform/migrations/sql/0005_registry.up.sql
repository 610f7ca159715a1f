create schema registry;

create table registry.service (
    id              text primary key,
    url             text not null unique check (length(url) <= 2048),
    name            text not null check (length(name) between 1 and 100),
    description     text not null check (length(description) <= 1000),
    category        text not null check (length(category) <= 50),
    owner           text not null,
    price_atomic    numeric(78, 0) not null check (price_atomic > 0),
    asset           text not null,
    asset_symbol    text not null,
    asset_decimals  int not null check (asset_decimals between 0 and 36),
    price_usd       numeric not null check (price_usd > 0),
    pricing_model   text not null check (pricing_model in ('FLAT', 'TIERED', 'DYNAMIC')),
    accepts         jsonb not null,
    input_schema    jsonb,
    output_schema   jsonb,
    capabilities    text[] not null,
    tags            text[] not null,
    extra           jsonb not null default '{}',
    status          text not null default 'ACTIVE' check (status in ('ACTIVE', 'PAUSED', 'DEPRECATED')),
    verified        boolean not null default false,
    total_calls     bigint not null default 0,
    successful_calls bigint not null default 0,
    response_ms_sum bigint not null default 0,
    rating_sum      bigint not null default 0,
    rating_count    bigint not null default 0,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    words           tsvector generated always as (
        to_tsvector('english', name || ' ' || description || ' ' || category)) stored
);
create index service_words on registry.service using gin (words);
create index service_owner on registry.service (owner);
create index service_active on registry.service (category, price_usd) where status = 'ACTIVE';

-- One row per proven payment: a payment is counted once and rated once.
create table registry.proven_payment (
    network     text not null,
    transaction text not null,
    service_id  text not null references registry.service (id) on delete cascade,
    payer       text not null,
    success     boolean not null,
    response_ms int,
    stars       int check (stars between 1 and 5),
    comment     text check (length(comment) <= 500),
    at          timestamptz not null,
    primary key (network, transaction)
);
create index proven_payment_service on registry.proven_payment (service_id, at desc);

-- Signed requests are good once.
create table registry.used_signature (
    digest     bytea primary key,
    expires_at timestamptz not null
);
