-- Purchases of runs of agents, see marketplace/purchases/store.py. Amounts are atomic units of `asset`. What the chain
-- says of the deal is mirrored in `deal_status` and `remaining`. A row is due at `next_try_at`; whoever takes it moves
-- that ahead, so that nobody else does, and `version` keeps those who did not notice from writing.
create table marketplace.purchase (
    id               text primary key,
    user_id          text not null check (user_id <> ''),
    key              text not null check (key <> ''),
    agent_id         text not null,
    agent_name       text not null,
    capability       text not null,
    seller           text not null,
    quantity         integer not null check (quantity > 0),
    asset            jsonb not null,
    price            numeric(78, 0) not null check (price > 0),
    fee_bps          integer not null,
    wallet_id        text not null,
    wallet           text not null,
    deal_id          text not null unique,
    lifetime_seconds integer not null,
    valid_until      timestamptz not null,
    state            text not null
        check (state in ('initiated', 'validating', 'processing', 'completed', 'failed', 'refunded')),
    step             text not null
        check (step in ('', 'reviewed', 'signing', 'sent', 'confirmed', 'entitled', 'refunding', 'ending', 'ended')),
    attempt          integer not null default 1,
    retries          integer not null default 0,
    next_try_at      timestamptz,
    operation_id     text not null default '',
    transaction      text not null default '',
    deal_status      smallint not null default 0,
    remaining        numeric(78, 0) not null default 0,
    expires_at       timestamptz,
    error            jsonb,
    refund_reason    text not null default '',
    booked_by        text not null default '',
    created_at       timestamptz not null,
    updated_at       timestamptz not null,
    version          bigint not null default 1,
    unique (user_id, key)
);
create index purchase_due on marketplace.purchase (next_try_at) where next_try_at is not null;
create index purchase_of_user on marketplace.purchase (user_id, created_at desc, id desc);
create index purchase_open on marketplace.purchase (id) where deal_status in (0, 1);
create index purchase_of_wallet on marketplace.purchase (wallet);
create index purchase_of_agent on marketplace.purchase (user_id, agent_id);

create table marketplace.purchase_event (
    purchase_id text not null references marketplace.purchase (id),
    sequence    integer not null,
    name        text not null,
    at          timestamptz not null,
    data        jsonb not null,
    primary key (purchase_id, sequence)
);

-- A user's right to run an agent: what the chain said of the token last, and how often tokens were burnt for runs since
-- the row was made. Whoever starts a run or a refund holds the row.
create table marketplace.entitlement (
    user_id    text not null,
    agent_id   text not null,
    wallet     text not null,
    token_id   numeric(78, 0) not null,
    balance    numeric(78, 0) not null default 0,
    burnt      bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (user_id, agent_id)
);
create index entitlement_of_token on marketplace.entitlement (wallet, token_id);

-- A run that a purchase paid for. `settled_at` once the seller has its price and the token is burnt, or, of a run that
-- failed, at once. The input is kept until then, so that another process can run it.
create table marketplace.use (
    id           text primary key,
    user_id      text not null,
    key          text not null,
    agent_id     text not null,
    purchase_id  text not null references marketplace.purchase (id),
    execution_id text not null,
    input_hash   text not null,
    input        bytea,
    state        text not null check (state in ('running', 'completed', 'failed')),
    error        jsonb,
    transaction  text not null default '',
    retries      integer not null default 0,
    next_try_at  timestamptz,
    created_at   timestamptz not null,
    finished_at  timestamptz,
    settled_at   timestamptz,
    unique (user_id, key)
);
create index use_due on marketplace.use (next_try_at) where next_try_at is not null;
create index use_of_purchase on marketplace.use (purchase_id);
create index use_of_user on marketplace.use (user_id, created_at desc);
