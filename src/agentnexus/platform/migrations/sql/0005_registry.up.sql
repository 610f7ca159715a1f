-- up: registry
select 1;
