-- Marketplace hardening: who has a settlement, gas that was sponsored, uploads, prices that ratings are measured by.

-- A seller settles under its reservation's own claim, so that of two sellers with separate databases one has the money.
alter table x402.reservation add column claim text not null default gen_random_uuid()::text;
alter table evm.settlement add column claim text;  -- null: settled before there were claims

-- Gas that a facilitator has promised in an hour, in all (scope '') and for each payer.
create table x402.sponsored_gas (
    network text not null,
    scope   text not null,
    hour    timestamptz not null,
    gas     bigint not null check (gas >= 0),
    primary key (network, scope, hour)
);

-- What is not lasting is kept only as long as an upload names it.
alter table platform.blob add column lasting boolean not null default true;

create table platform.upload (
    user_id    text not null,
    reference  text not null references platform.blob (reference),
    size_bytes bigint not null check (size_bytes >= 0),
    created_at timestamptz not null,
    used_at    timestamptz,  -- last named by a task
    primary key (user_id, reference)
);
create index upload_reference on platform.upload (reference);
create index upload_last_used on platform.upload (coalesce(used_at, created_at));

-- Files a user sent within an hour, whether new or kept before.
create table platform.upload_hour (
    user_id text not null,
    hour    timestamptz not null,
    files   integer not null check (files >= 0),
    primary key (user_id, hour)
);

-- What a service asked for since when: a payment is measured by the price of its own time.
create table registry.price (
    service_id text not null references registry.service (id) on delete cascade,
    network    text not null,
    asset      text not null,
    amount     numeric(78, 0) not null check (amount > 0),
    since      timestamptz not null,
    primary key (service_id, network, asset, since)
);
insert into registry.price (service_id, network, asset, amount, since)
select s.id, a ->> 'network', lower(a ->> 'asset'), min((a ->> 'amount')::numeric), s.created_at
  from registry.service s, jsonb_array_elements(s.accepts) a
 group by s.id, a ->> 'network', lower(a ->> 'asset'), s.created_at;
