drop table registry.price;
drop table platform.upload_hour;
drop table platform.upload;
alter table platform.blob drop column lasting;
drop table x402.sponsored_gas;
alter table evm.settlement drop column claim;
alter table x402.reservation drop column claim;
