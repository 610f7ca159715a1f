-- Beside the engine's own tables: edits before approval, templates, schedules, webhooks, the audit trail; and two of
-- the identity room: rate buckets that all processes share, and challenges to sign for a login.

-- One row per workflow whose plan was edited or approved; whoever holds its lock decides which came first.
create table workflow.review (
    workflow_id text primary key,
    revision    integer not null default 0,
    plan        jsonb,
    estimate    jsonb,
    approved_by text,
    approved_at timestamptz,
    updated_at  timestamptz not null
);

create table workflow.template (
    id          text primary key,
    user_id     text not null,
    name        text not null,
    description text not null,
    body        jsonb not null,
    created_at  timestamptz not null,
    updated_at  timestamptz not null
);
create index template_user on workflow.template (user_id, created_at desc, id desc);

create table workflow.schedule (
    id          text primary key,
    user_id     text not null,
    name        text not null,
    cron        text not null,
    timezone    text not null,
    missed      text not null check (missed in ('skip', 'once', 'all')),
    task        jsonb not null,
    paused      boolean not null default false,
    next_at     timestamptz,
    created_at  timestamptz not null,
    updated_at  timestamptz not null
);
create index schedule_user on workflow.schedule (user_id, created_at desc, id desc);
create index schedule_due on workflow.schedule (next_at) where not paused and next_at is not null;

-- The primary key is what makes one run per due time; `firing` rows without an end are taken up again after a crash.
create table workflow.firing (
    schedule_id text not null references workflow.schedule on delete cascade,
    due_at      timestamptz not null,
    state       text not null check (state in ('due', 'started', 'skipped', 'failed')),
    task        jsonb not null,
    workflow_id text,
    error       jsonb,
    attempts    integer not null default 0,
    try_at      timestamptz not null,
    primary key (schedule_id, due_at)
);
create index firing_due on workflow.firing (try_at) where state = 'due';

create table workflow.webhook (
    id         text primary key,
    user_id    text not null,
    url        text not null,
    events     text[] not null,
    signature  text not null check (signature in ('hmac-sha256', 'ed25519')),
    secret     text not null,
    enabled    boolean not null default true,
    reason     text not null default '',
    failures   integer not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index webhook_user on workflow.webhook (user_id) where enabled;

create table workflow.delivery (
    webhook_id   text not null references workflow.webhook on delete cascade,
    run_id       text not null,
    sequence     bigint not null,
    name         text not null,
    state        text not null default 'waiting' check (state in ('waiting', 'delivered', 'failed')),
    attempts     integer not null default 0,
    next_at      timestamptz not null default now(),
    status       integer,
    answer       text not null default '',
    created_at   timestamptz not null default now(),
    delivered_at timestamptz,
    primary key (webhook_id, run_id, sequence)
);
create index delivery_due on workflow.delivery (next_at) where state = 'waiting';
create index delivery_log on workflow.delivery (webhook_id, created_at desc);

-- Deliveries are made in the very statement that writes the events: none is lost, and none is made of what was not.
create function workflow.note_deliveries() returns trigger language plpgsql as $$
begin
    if exists (select from workflow.webhook where enabled) then
        insert into workflow.delivery (webhook_id, run_id, sequence, name)
        select w.id, f.run_id, f.sequence, f.name
        from fresh f join workflow.run r on r.id = f.run_id
        join workflow.webhook w on w.user_id = r.tenant and w.enabled
        where '*' = any(w.events) or f.name = any(w.events) or split_part(f.name, '.', 1) || '.*' = any(w.events)
        on conflict do nothing;
    end if;
    return null;
end $$;
create trigger note_deliveries after insert on workflow.event
    referencing new table as fresh for each statement execute function workflow.note_deliveries();

-- Who did what. What a workflow went through is in workflow.event, what money did is in the ledger.
create table workflow.audit (
    id      bigint generated always as identity primary key,
    at      timestamptz not null default clock_timestamp(),
    actor   text not null,
    user_id text not null,
    action  text not null,
    subject text not null,
    data    jsonb not null
);
create index audit_subject on workflow.audit (subject, id);
create index audit_user on workflow.audit (user_id, id);
create function workflow.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit trail is only added to';
end $$;
create trigger append_only before update or delete or truncate on workflow.audit
    for each statement execute function workflow.refuse_change();

-- Counts of one minute: losing them in a crash of the server costs nothing.
create unlogged table identity.bucket (
    key     text primary key,
    tokens  double precision not null,
    granted integer not null,
    at      timestamptz not null
) with (fillfactor = 70);

create table identity.challenge (
    nonce      text primary key,
    address    text not null,
    expires_at timestamptz not null
);
