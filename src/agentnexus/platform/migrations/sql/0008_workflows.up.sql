-- up: workflows
select 1;
