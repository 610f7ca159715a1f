-- down: tables of 0018_purchases; its room writes them.
select 1;
