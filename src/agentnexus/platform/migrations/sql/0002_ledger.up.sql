-- up: ledger
select 1;
