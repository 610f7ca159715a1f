-- down: registry
select 1;
