-- down: platform
select 1;
