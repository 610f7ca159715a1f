-- up: platform
select 1;
