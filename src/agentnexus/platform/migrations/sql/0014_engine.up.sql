-- Fair queueing. Each queued run has a turn in the line of its tenant and priority; claims take the lowest turn. A line
-- that was idle starts at the pace (the highest turn that was claimed), so nobody saves up turns and nobody waits behind
-- all the runs of somebody else.
alter table workflow.run add column turn bigint not null default 0;
drop index workflow.run_queued;
create index run_queued on workflow.run (priority desc, turn, available_at, id) where state = 'queued';

create table workflow.line (
    tenant text not null,
    priority integer not null,
    turn bigint not null,
    primary key (tenant, priority)
) with (fillfactor = 50);

create table workflow.pace (
    priority integer primary key,
    turn bigint not null
) with (fillfactor = 50);
insert into workflow.pace (priority, turn) select distinct priority, 0 from workflow.run;

-- Reserves the next `runs` turns of a line; they begin after what is returned.
create function workflow.next_turn(of_tenant text, of_priority integer, runs bigint) returns bigint
language sql volatile as $$
    insert into workflow.line as l (tenant, priority, turn)
    values (of_tenant, of_priority,
            coalesce((select p.turn from workflow.pace p where p.priority = of_priority), 0) + runs)
    on conflict (tenant, priority) do update set turn = greatest(l.turn, excluded.turn - runs) + runs
    returning turn - runs
$$;

-- How many runs are in each state, as a sum of changes: every statement that moves runs adds rows, repairs fold them.
create table workflow.tally (
    state text not null,
    runs bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
insert into workflow.tally (state, runs) select state, count(*) from workflow.run group by state;
