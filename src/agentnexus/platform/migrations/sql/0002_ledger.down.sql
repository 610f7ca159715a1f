-- down: ledger
select 1;
