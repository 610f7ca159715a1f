"""The statements of the PostgreSQL journal (15 to 18, no extensions). Every lease and timer takes its time as a
parameter; null means the database's own clock, so that the clocks of worker hosts need not agree."""

ENQUEUE = """
with n as (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::timestamptz[],
                         $8::int[])
        as n(id, body, tenant, priority, input, attributes, available_at, events)
), made as (
    insert into workflow.run (id, body, tenant, state, priority, input, attributes, sequence,
                              available_at, created_at, updated_at)
    select id, body, tenant, case when available_at is null then 'queued' else 'waiting' end, priority,
           input::jsonb, attributes::jsonb, events, coalesce(available_at, $13), $13, $13
    from n on conflict (id) do nothing returning id
), told as (
    insert into workflow.event (run_id, sequence, name, at, data)
    select e.run_id, e.sequence, e.name, $13, e.data::jsonb
    from unnest($9::text[], $10::bigint[], $11::text[], $12::text[]) as e(run_id, sequence, name, data)
    join made on made.id = e.run_id
)
select id from made
"""

CLAIM = """
with picked as (
    select id from workflow.run where state = 'queued' and body = any($2::text[]) and exists
        (select from workflow.worker w where w.id = $1 and w.lease_until > coalesce($5, clock_timestamp()))
    order by priority desc, available_at, id limit $3 for update skip locked
)
update workflow.run r set state = 'running', owner = $1, epoch = r.epoch + 1, updated_at = $4
from picked where r.id = picked.id
returning r.*
"""

READ_STEPS = """
select run_id, key, state, attempt, output::text, error, started_at, ended_at, retry_at
from workflow.step where run_id = any($1::text[])
"""
READ_TIMERS = "select run_id, key, due_at from workflow.timer where run_id = any($1::text[])"
READ_SIGNALS = """
select run_id, position, name, payload from workflow.signal
where run_id = any($1::text[]) order by run_id, position
"""

# The fence: only rows whose epoch is still the writer's are updated, and everything else joins those. Rows are found by
# primary key: `owner is not null` says the same as `state = 'running'` without inviting the index of running runs.
COMMIT = """
with w as (
    select * from unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::int[], $5::text[], $6::text[], $7::text[],
                         $8::text[], $9::timestamptz[], $10::bigint[])
        as w(run_id, epoch, at, events, attributes, state, output, error, available_at, signals_seen)
), held as (
    update workflow.run r set
        sequence = r.sequence + w.events,
        attributes = case when w.attributes is null then r.attributes else r.attributes || w.attributes::jsonb end,
        state = case when w.state is null then r.state
                     when w.state = 'waiting' and (r.signals > w.signals_seen or r.cancel_reason is not null)
                     then 'queued' else w.state end,
        owner = case when w.state is null then r.owner end,
        output = coalesce(w.output::jsonb, r.output),
        error = coalesce(w.error::jsonb, r.error),
        available_at = case when w.state is null then r.available_at
                            when w.state = 'waiting' and r.signals <= w.signals_seen and r.cancel_reason is null
                            then coalesce(w.available_at, 'infinity') else w.at end,
        updated_at = w.at,
        finished_at = case when w.state in ('completed', 'failed', 'cancelled') then w.at end
    from w where r.id = w.run_id and r.id = any($1::text[]) and r.epoch = w.epoch and r.owner is not null
    returning r.id, r.sequence - w.events as base
), stepped as (
    insert into workflow.step (run_id, key, state, attempt, output, error, started_at, ended_at, retry_at)
    select held.id, s.key, s.state, s.attempt, s.output::jsonb, s.error::jsonb, s.started_at, s.ended_at, s.retry_at
    from unnest($11::text[], $12::text[], $13::text[], $14::int[], $15::text[], $16::text[], $17::timestamptz[],
                $18::timestamptz[], $19::timestamptz[])
        as s(run_id, key, state, attempt, output, error, started_at, ended_at, retry_at)
    join held on held.id = s.run_id
    on conflict (run_id, key) do update set state = excluded.state, attempt = excluded.attempt,
        output = excluded.output, error = excluded.error, started_at = excluded.started_at,
        ended_at = excluded.ended_at, retry_at = excluded.retry_at
), timed as (
    insert into workflow.timer (run_id, key, due_at)
    select held.id, t.key, t.due_at from unnest($20::text[], $21::text[], $22::timestamptz[]) as t(run_id, key, due_at)
    join held on held.id = t.run_id on conflict do nothing
), told as (
    insert into workflow.event (run_id, sequence, name, at, data)
    select held.id, held.base + e.place, e.name, e.at, e.data::jsonb
    from unnest($23::text[], $24::int[], $25::text[], $26::timestamptz[], $27::text[])
        as e(run_id, place, name, at, data)
    join held on held.id = e.run_id
)
select id from held
"""

FREE = """
update workflow.run set state = 'queued', owner = null, epoch = epoch + 1, recoveries = recoveries + 1,
    updated_at = $3
where id = $1 and epoch = $2 and state = 'running'
"""

REGISTER = """
insert into workflow.worker (id, lease_until, started_at)
values ($1, coalesce($2, clock_timestamp()) + $3::interval, coalesce($2, clock_timestamp()))
on conflict (id) do update set lease_until = excluded.lease_until
"""
RENEW = """
update workflow.worker set lease_until = coalesce($2, clock_timestamp()) + $3::interval
where id = $1 and lease_until > coalesce($2, clock_timestamp()) returning id
"""
RETIRE = "delete from workflow.worker where id = $1"

# A run is an orphan when its owner's lease lapsed or its owner is gone. Bounded, and never waits for a locked row.
TAKE_BACK = """
with orphan as (
    select r.id from workflow.run r left join workflow.worker w on w.id = r.owner
    where r.state = 'running' and (w.id is null or w.lease_until <= coalesce($1, clock_timestamp()))
    limit $2 for update of r skip locked
)
update workflow.run r set state = 'queued', owner = null, epoch = r.epoch + 1, recoveries = r.recoveries + 1,
    updated_at = coalesce($1, clock_timestamp())
from orphan where r.id = orphan.id returning r.id
"""
WAKE_DUE = """
with due as (
    select id from workflow.run where state = 'waiting' and available_at <= coalesce($1, clock_timestamp())
    order by available_at limit $2 for update skip locked
)
update workflow.run r set state = 'queued', updated_at = coalesce($1, clock_timestamp())
from due where r.id = due.id returning r.id
"""
BURY = """
delete from workflow.worker w where lease_until <= coalesce($1, clock_timestamp()) - interval '1 hour'
    and not exists (select 1 from workflow.run r where r.owner = w.id and r.state = 'running')
"""

NEWS = "select id, signals, cancel_reason from workflow.run where owner = $1 and state = 'running'"

SIGNAL = """
with r as (
    update workflow.run set signals = signals + 1, updated_at = $5,
        available_at = case when state = 'waiting' then $5 else available_at end,
        state = case when state = 'waiting' then 'queued' else state end
    where id = $1 and state in ('queued', 'running', 'waiting')
        and ($4 = '' or not exists (select 1 from workflow.signal where run_id = $1 and key = $4))
    returning id, signals
)
insert into workflow.signal (run_id, position, name, key, payload, received_at)
select id, signals, $2, $4, $3::text::jsonb, $5 from r returning position
"""

CANCEL = """
update workflow.run set cancel_reason = coalesce(cancel_reason, $2), updated_at = $3,
    available_at = case when state = 'waiting' then $3 else available_at end,
    state = case when state = 'waiting' then 'queued' else state end
where id = $1 and state in ('queued', 'running', 'waiting') returning id
"""

GET = "select * from workflow.run where id = $1"
EXISTS = "select 1 from workflow.run where id = $1"
LIST = """
select * from workflow.run
where tenant = $1 and ($3::timestamptz is null or (created_at, id) < ($3::timestamptz, $4::text))
order by created_at desc, id desc limit $2
"""
COUNTS = "select state, count(*) as runs from workflow.run group by state"
RECENT = "select * from workflow.run where finished_at is not null order by finished_at desc limit $1"
READ_EVENTS = """
select name, sequence, at, data from workflow.event where run_id = $1 and sequence > $2 order by sequence limit $3
"""
