"""The statements of the PostgreSQL journal (15 to 18, no extensions). Every lease and timer takes its time as a
parameter; null means the database's own clock, so that the clocks of worker hosts need not agree."""

# Delayed runs get their turn when their time comes: nobody can reserve a place in front of those who are there by then.
ENQUEUE = """
with n as (
    select g.*, row_number() over (partition by tenant, priority, available_at is null order by ordinal) as place
    from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::timestamptz[], $8::int[])
        with ordinality as g(id, body, tenant, priority, input, attributes, available_at, events, ordinal)
    where not exists (select from workflow.run r where r.id = g.id)
), paced as (
    insert into workflow.pace (priority, turn) select distinct priority, 0 from n order by priority
    on conflict do nothing
), line as (
    select s.tenant, s.priority, workflow.next_turn(s.tenant, s.priority, s.runs) as turn
    from (select tenant, priority, count(*) as runs from n where available_at is null group by tenant, priority
          order by tenant, priority) s
), made as (
    insert into workflow.run (id, body, tenant, state, priority, turn, input, attributes, sequence,
                              available_at, created_at, updated_at)
    select n.id, n.body, n.tenant, case when n.available_at is null then 'queued' else 'waiting' end, n.priority,
           case when n.available_at is null then line.turn + n.place else 0 end,
           n.input::jsonb, n.attributes::jsonb, n.events, coalesce(n.available_at, $13), $13, $13
    from n left join line on line.tenant = n.tenant and line.priority = n.priority
    order by n.id on conflict (id) do nothing returning id, state
), tallied as (
    insert into workflow.tally (state, runs) select state, count(*) from made group by state
), told as (
    insert into workflow.event (run_id, sequence, name, at, data)
    select e.run_id, e.sequence, e.name, $13, e.data::jsonb
    from unnest($9::text[], $10::bigint[], $11::text[], $12::text[]) as e(run_id, sequence, name, data)
    join made on made.id = e.run_id
)
select id from made
"""

# The highest priority first, within it the lowest turn. The pace follows what is claimed; a claim that finds its row
# taken by another claim leaves it behind by one batch rather than wait.
_CLAIM = """
with picked as (
    select id, priority, turn from workflow.run where state = 'queued' and body = any($2::text[]) and exists
        (select from workflow.worker w where w.id = $1 and w.lease_until > coalesce($5, clock_timestamp())){beside}
    order by priority desc, turn, available_at, id limit $3 for update skip locked
), taken as (
    update workflow.run r set state = 'running', owner = $1, epoch = r.epoch + 1, updated_at = $4
    from picked where r.id = picked.id
    returning r.*
), ahead as (
    select priority, max(turn) as turn from picked group by priority
), free as (
    select p.priority, a.turn from workflow.pace p join ahead a on a.priority = p.priority
    where p.turn < a.turn for update of p skip locked
), paced as (
    update workflow.pace p set turn = free.turn from free where p.priority = free.priority
), tallied as (
    insert into workflow.tally (state, runs)
    select change.state, change.sign * count(*)
    from taken, (values ('queued', -1), ('running', 1)) as change(state, sign)
    group by change.state, change.sign
)
select * from taken
"""
CLAIM = _CLAIM.format(beside="")
# Without the runs of tenants that have their share of this worker. Turns interleave the lines, so the next of every
# other tenant is near the head of its priority: the look past the others' runs is bounded.
CLAIM_BESIDE = _CLAIM.format(
    beside="""
        and tenant <> all($6::text[]) and id in (
            select q.id from workflow.pace p cross join lateral (
                select id from workflow.run where state = 'queued' and priority = p.priority and body = any($2::text[])
                order by turn, available_at, id limit $7
            ) q
        )"""
)

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
    returning r.id, r.sequence - w.events as base, r.state, w.state is not null as ended
), tallied as (
    insert into workflow.tally (state, runs)
    select 'running', -count(*) from held where ended having count(*) > 0
    union all select state, count(*) from held where ended group by state
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
with freed as (
    update workflow.run set state = 'queued', owner = null, epoch = epoch + 1, recoveries = recoveries + 1,
        updated_at = $3
    where id = $1 and epoch = $2 and state = 'running' returning id
)
insert into workflow.tally (state, runs)
select change.state, change.runs from freed, (values ('running', -1), ('queued', 1)) as change(state, runs)
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

# A run is an orphan when its owner's lease lapsed or its owner is gone. Bounded, and never waits for a locked row. The
# inner join matters: a run that somebody claimed since this statement began is looked at again under its lock, and
# then has an owner that is not among the dead.
TAKE_BACK = """
with dead as (
    select distinct r.owner from workflow.run r left join workflow.worker w on w.id = r.owner
    where r.state = 'running' and (w.id is null or w.lease_until <= coalesce($1, clock_timestamp()))
), orphan as (
    select r.id from workflow.run r join dead on dead.owner = r.owner where r.state = 'running'
    limit $2 for update of r skip locked
), freed as (
    update workflow.run r set state = 'queued', owner = null, epoch = r.epoch + 1, recoveries = r.recoveries + 1,
        updated_at = coalesce($1, clock_timestamp())
    from orphan where r.id = orphan.id returning r.id
), tallied as (
    insert into workflow.tally (state, runs)
    select change.state, change.sign * count(*)
    from freed, (values ('running', -1), ('queued', 1)) as change(state, sign)
    group by change.state, change.sign
)
select id from freed
"""
WAKE_DUE = """
with due as (
    select id, tenant, priority, available_at from workflow.run
    where state = 'waiting' and available_at <= coalesce($1, clock_timestamp())
    order by available_at, id limit $2 for update skip locked
), line as (
    select s.tenant, s.priority, workflow.next_turn(s.tenant, s.priority, s.runs) as turn
    from (select tenant, priority, count(*) as runs from due group by tenant, priority order by tenant, priority) s
), placed as (
    select due.id, line.turn + row_number() over (
        partition by due.tenant, due.priority order by due.available_at, due.id) as turn
    from due join line on line.tenant = due.tenant and line.priority = due.priority
), woken as (
    update workflow.run r set state = 'queued', turn = placed.turn, updated_at = coalesce($1, clock_timestamp())
    from placed where r.id = placed.id returning r.id
), tallied as (
    insert into workflow.tally (state, runs)
    select change.state, change.sign * count(*)
    from woken, (values ('waiting', -1), ('queued', 1)) as change(state, sign)
    group by change.state, change.sign
)
select id from woken
"""
BURY = """
delete from workflow.worker w where lease_until <= coalesce($1, clock_timestamp()) - interval '1 hour'
    and not exists (select 1 from workflow.run r where r.owner = w.id and r.state = 'running')
"""

NEWS = "select id, signals, cancel_reason from workflow.run where owner = $1 and state = 'running'"

SIGNAL = """
with found as (
    select id, tenant, priority, state from workflow.run
    where id = $1 and state in ('queued', 'running', 'waiting')
        and ($4 = '' or not exists (select 1 from workflow.signal where run_id = $1 and key = $4))
    for update
), r as (
    update workflow.run r set signals = r.signals + 1, updated_at = $5,
        available_at = case when found.state = 'waiting' then $5 else r.available_at end,
        turn = case when found.state = 'waiting' then workflow.next_turn(found.tenant, found.priority, 1) + 1
               else r.turn end,
        state = case when found.state = 'waiting' then 'queued' else r.state end
    from found where r.id = found.id
    returning r.id, r.signals, found.state as before
), tallied as (
    insert into workflow.tally (state, runs)
    select change.state, change.runs from r, (values ('waiting', -1), ('queued', 1)) as change(state, runs)
    where r.before = 'waiting'
)
insert into workflow.signal (run_id, position, name, key, payload, received_at)
select id, signals, $2, $4, $3::text::jsonb, $5 from r returning position
"""

# A cancelled run goes to the head of its priority: what it holds is given back before others get more.
CANCEL = """
with found as (
    select id, state from workflow.run where id = $1 and state in ('queued', 'running', 'waiting') for update
), r as (
    update workflow.run r set cancel_reason = coalesce(r.cancel_reason, $2), updated_at = $3, turn = 0,
        available_at = case when found.state = 'waiting' then $3 else r.available_at end,
        state = case when found.state = 'waiting' then 'queued' else r.state end
    from found where r.id = found.id
    returning r.id, found.state as before
), tallied as (
    insert into workflow.tally (state, runs)
    select change.state, change.runs from r, (values ('waiting', -1), ('queued', 1)) as change(state, runs)
    where r.before = 'waiting'
)
select id from r
"""

GET = "select * from workflow.run where id = $1"
OUTPUTS = """
select key, coalesce(output::text, 'null') as output from workflow.step
where run_id = $1 and key = any($2::text[]) and state = 'completed'
"""
COUNT_OF = "select count(*) from workflow.run where tenant = $1"
EXISTS = "select 1 from workflow.run where id = $1"
LIST = """
select * from workflow.run
where tenant = $1 and ($3::timestamptz is null or (created_at, id) < ($3::timestamptz, $4::text))
order by created_at desc, id desc limit $2
"""
COUNTS = "select state, sum(runs)::bigint as runs from workflow.tally group by state having sum(runs) <> 0"
FOLD_TALLY = """
with gone as (
    delete from workflow.tally where ctid = any(array(
        select ctid from workflow.tally where (select count(*) from (select from workflow.tally limit 65) few) > 64
        limit 5000 for update skip locked
    )) returning state, runs
)
insert into workflow.tally (state, runs) select state, sum(runs) from gone group by state
"""
RECENT = "select * from workflow.run where finished_at is not null order by finished_at desc limit $1"
READ_EVENTS = """
select name, sequence, at, data from workflow.event where run_id = $1 and sequence > $2 order by sequence limit $3
"""
