-- down: x402
select 1;
