alter table wallet.operation drop column ending;
drop index paymaster.sponsorship_unsigned;
drop index paymaster.sponsorship_unfinished;
delete from paymaster.sponsorship where state = 'offered';
create index sponsorship_unfinished on paymaster.sponsorship (network, paymaster, valid_until)
    where state in ('reserving', 'signed');
alter table paymaster.sponsorship
    drop column newcomer,
    drop column unsigned,
    drop constraint sponsorship_state_check,
    add check (state in ('reserving', 'signed', 'used', 'released'));
