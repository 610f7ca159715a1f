-- down: ledger
drop schema ledger cascade;
