-- up: marketplace
select 1;
