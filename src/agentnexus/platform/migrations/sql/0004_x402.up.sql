-- up: x402
select 1;
