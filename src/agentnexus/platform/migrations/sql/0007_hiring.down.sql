-- down: hiring
select 1;
