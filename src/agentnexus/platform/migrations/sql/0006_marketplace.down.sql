-- down: marketplace
select 1;
