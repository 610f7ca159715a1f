-- up: hiring
select 1;
