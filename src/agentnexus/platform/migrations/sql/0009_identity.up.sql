-- up: identity
select 1;
