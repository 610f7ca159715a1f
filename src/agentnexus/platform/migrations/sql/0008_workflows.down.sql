-- down: workflows
select 1;
