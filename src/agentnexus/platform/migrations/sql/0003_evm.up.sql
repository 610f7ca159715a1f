-- up: evm
select 1;
