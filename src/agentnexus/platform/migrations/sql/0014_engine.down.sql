-- Nothing yet: the statement is only there to be one.
select 1;
