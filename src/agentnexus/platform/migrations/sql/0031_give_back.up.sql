-- Payments that come back: their budgets count them as spent no more. `transfer.reservation` names the payment that a
-- transfer gave back (to its payer) or took again (from its payer); `reservation.returned` is the sum of those. What went
-- again counts whatever the limits say, so a budget may pass its total by `again`, which never shrinks, and by no more.
alter table ledger.transfer add column reservation text not null default '';
alter table ledger.reservation
    add column returned numeric(78, 0) not null default 0,
    add constraint reservation_returned check (returned between 0 and captured);
alter table ledger.budget
    add column again numeric(78, 0) not null default 0 check (again >= 0),
    drop constraint budget_total,
    add constraint budget_total check (spendable is null or reserved + spent <= spendable + again);
