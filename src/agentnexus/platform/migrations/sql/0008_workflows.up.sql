-- Durable runs. A worker's lease covers all runs it owns; `epoch` fences a run against its former owners.
create schema workflow;

create table workflow.worker (
    id text primary key,
    lease_until timestamptz not null,
    started_at timestamptz not null
);

create table workflow.run (
    id text primary key,
    body text not null,
    tenant text not null,
    state text not null check (state in ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled')),
    priority integer not null,
    input jsonb not null,
    output jsonb,
    error jsonb,
    attributes jsonb not null,
    owner text,
    epoch bigint not null default 0,
    recoveries integer not null default 0,
    sequence bigint not null,
    signals bigint not null default 0,
    cancel_reason text,
    available_at timestamptz not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    finished_at timestamptz,
    check ((state = 'running') = (owner is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
create index run_queued on workflow.run (priority desc, available_at, id) where state = 'queued';
create index run_due on workflow.run (available_at) where state = 'waiting';
create index run_owned on workflow.run (owner) where state = 'running';
create index run_finished on workflow.run (finished_at desc) where finished_at is not null;
create index run_tenant on workflow.run (tenant, created_at desc, id desc);

-- step, timer and event rows are only written by the fenced statement that also updates their run: a foreign key
-- would check the same thing again on the hottest path.
create table workflow.step (
    run_id text not null,
    key text not null,
    state text not null check (state in ('started', 'retrying', 'completed', 'failed')),
    attempt integer not null,
    output jsonb,
    error jsonb,
    started_at timestamptz not null,
    ended_at timestamptz,
    retry_at timestamptz,
    primary key (run_id, key)
);

create table workflow.timer (
    run_id text not null,
    key text not null,
    due_at timestamptz not null,
    primary key (run_id, key)
);

create table workflow.signal (
    run_id text not null references workflow.run on delete cascade,
    position bigint not null,
    name text not null,
    key text not null,
    payload jsonb,
    received_at timestamptz not null,
    primary key (run_id, position)
);
create unique index signal_key on workflow.signal (run_id, key) where key <> '';

-- `sequence` is handed out under the run's row lock, so it has no gaps and commits in order.
create table workflow.event (
    run_id text not null,
    sequence bigint not null,
    name text not null,
    at timestamptz not null,
    data jsonb not null,
    primary key (run_id, sequence)
);
