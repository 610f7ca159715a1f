-- Purchases and the rights to run that they give, see marketplace/purchases/store.py.
select 1;
