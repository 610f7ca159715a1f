-- up: hiring
-- JSON that sellers wrote is kept as text: jsonb refuses NUL characters, and a receipt must come back byte for byte.
create schema hiring;

create table hiring.hire (
    key text primary key,
    user_id text not null,
    budget_id text not null,
    need_hash text not null,
    capability text not null default '',
    state text not null default 'running' check (state in ('running', 'done', 'failed')),
    output text,
    error text,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    check ((state = 'running') = (finished_at is null)),
    check (state <> 'done' or output is not null),
    check (state <> 'failed' or error is not null)
);
create index hire_by_user on hiring.hire (user_id, created_at desc);

create table hiring.attempt (
    hire_key text not null references hiring.hire (key) on delete cascade,
    number int not null check (number >= 1),
    job_id text not null unique,
    job_key text not null unique,
    market text not null,
    seller text not null,
    offer text not null,
    quote text not null,
    state text not null default 'quoted'
        check (state in ('quoted', 'delivered', 'settled', 'refunded', 'failed', 'interrupted')),
    output text,
    error text,
    receipt text,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    primary key (hire_key, number),
    check ((state in ('settled', 'refunded', 'failed', 'interrupted')) = (finished_at is not null)),
    check (finished_at is null or receipt is not null)
);
-- At most one attempt of a hire is open: the money of the one before is settled or back.
create unique index attempt_open on hiring.attempt (hire_key) where finished_at is null;

create table hiring.hold (
    key text primary key,
    hire_key text not null,
    job_key text not null,
    binding text not null,
    rail text not null,
    request text not null,
    budget_id text,
    task text not null default '',
    payer_account text not null,
    payee_account text not null,
    seller text not null default '',
    capability text not null default '',
    reservation text not null unique,
    payment_id text,
    payment text,
    state text not null check (
        state in ('reserved', 'sent', 'held', 'confirmed', 'released', 'refunded', 'failed', 'unknown')),
    reason text not null default '',
    opened_at timestamptz not null default now(),
    deadline timestamptz not null,
    looked_at timestamptz,
    finished_at timestamptz,
    unique (job_key, binding),
    check ((state in ('confirmed', 'released', 'refunded', 'failed')) = (finished_at is not null)),
    check (state in ('reserved', 'sent', 'failed', 'refunded', 'unknown') or payment is not null)
);
create index hold_by_payment on hiring.hold (payment_id);
create index hold_by_hire on hiring.hold (hire_key);
create index hold_open on hiring.hold (deadline) where finished_at is null;

create table hiring.outcome (
    job_id text primary key,
    seller text not null,
    market text not null,
    capability text not null,
    buyer text not null,
    self_dealing boolean not null default false,
    succeeded boolean not null,
    schema_valid boolean,
    duration_seconds double precision not null check (duration_seconds >= 0),
    promised_seconds double precision,
    rating smallint check (rating between 1 and 5),
    at timestamptz not null default now()
);
create index outcome_by_seller on hiring.outcome (seller, at desc);

create table hiring.seller (
    seller text primary key,
    jobs bigint not null default 0,
    succeeded bigint not null default 0,
    schema_invalid bigint not null default 0,
    promised bigint not null default 0,
    kept_promise bigint not null default 0,
    ratings bigint not null default 0,
    rating_total bigint not null default 0,
    latency_seconds double precision,
    updated_at timestamptz not null default now()
);

create table hiring.preference (
    user_id text not null,
    seller text not null,
    kind text not null check (kind in ('preferred', 'blocked')),
    created_at timestamptz not null default now(),
    primary key (user_id, seller)
);
