-- Up: indexer. Events of contracts as the chain tells them, and who has been told of which.
create schema indexer;

-- One row per follower: who leads it, how far it looks at once, and when it last had everything up to the head.
create table indexer.follower (
    name text not null,
    network text not null,
    holder text not null default '',
    held_until timestamptz not null default '-infinity',
    span_blocks integer not null check (span_blocks > 0),
    start_number bigint,
    head_number bigint,
    followed_at timestamptz,
    primary key (name, network)
);

-- What is asked for, and how far: a source added later is read from its own beginning.
create table indexer.source (
    name text not null,
    network text not null,
    source text not null,
    read_to bigint not null,
    primary key (name, network, source),
    foreign key (name, network) references indexer.follower on delete cascade
);

-- Ends of what was read at once, to find where a reorganisation began. Blocks with events are in the events.
create table indexer.block (
    name text not null,
    network text not null,
    number bigint not null,
    hash text not null,
    primary key (name, network, number),
    foreign key (name, network) references indexer.follower on delete cascade
);

-- `seen`: not deep enough to be told. `applied`: told. `orphaned`: told, and then told to be gone. `round` counts how
-- often it was applied: a block may leave the chain and come back.
create table indexer.event (
    name text not null,
    network text not null,
    block_hash text not null,
    transaction text not null,
    log_index integer not null,
    block_number bigint not null,
    contract text not null,
    event text not null,
    arguments jsonb not null,
    state text not null check (state in ('seen', 'applied', 'orphaned')),
    round integer not null default 0,
    primary key (name, network, block_hash, transaction, log_index),
    foreign key (name, network) references indexer.follower on delete cascade
);
create index event_place on indexer.event (name, network, block_number desc, log_index) where state <> 'orphaned';
create index event_seen on indexer.event (name, network, block_number) where state = 'seen';
create index event_kind on indexer.event (network, contract, event, block_number);
create index event_arguments on indexer.event using gin (arguments jsonb_path_ops);
create index event_transaction on indexer.event (network, transaction);

-- Written only while the follower's row is locked, so positions become visible in their order.
create table indexer.change (
    position bigint generated always as identity primary key,
    name text not null,
    network text not null,
    block_hash text not null,
    transaction text not null,
    log_index integer not null,
    event text not null,
    kind text not null check (kind in ('applied', 'reverted')),
    round integer not null,
    foreign key (name, network, block_hash, transaction, log_index) references indexer.event on delete cascade
);
create index change_of_follower on indexer.change (name, network, position);

-- One row per handler of a follower; its lock is the turn to deliver.
create table indexer.handler (
    name text not null,
    network text not null,
    handler text not null,
    position bigint not null default 0,
    failures integer not null default 0,
    last_error text not null default '',
    primary key (name, network, handler),
    foreign key (name, network) references indexer.follower on delete cascade
);
