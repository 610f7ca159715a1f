-- down: identity
select 1;
