drop table workflow.tally;
drop function workflow.next_turn(text, integer, bigint);
drop table workflow.pace;
drop table workflow.line;
drop index workflow.run_queued;
alter table workflow.run drop column turn;
create index run_queued on workflow.run (priority desc, available_at, id) where state = 'queued';
