-- down: grants
drop index ledger.reservation_resolved;
drop index ledger.transfer_fee;
drop trigger entry_late on ledger.entry;
drop function ledger.count_late_entries();
drop table ledger.checkpoint;
drop table ledger.hosted_price;
drop index ledger.budget_grant_owner;
alter table ledger.budget_grant drop column revocation, drop column owner;
drop table ledger.approver;
