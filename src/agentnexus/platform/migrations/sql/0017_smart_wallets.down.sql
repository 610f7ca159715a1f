-- Nothing to do: the number is part of the chain, and its room has no tables of its own.
select 1;
