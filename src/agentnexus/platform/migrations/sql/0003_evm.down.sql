-- down: evm
select 1;
