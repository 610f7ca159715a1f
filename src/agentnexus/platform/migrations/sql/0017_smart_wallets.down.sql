-- down: tables of 0017_smart_wallets; its room writes them.
select 1;
