drop table marketplace.use;
drop table marketplace.entitlement;
drop table marketplace.purchase_event;
drop table marketplace.purchase;
