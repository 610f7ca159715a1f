-- Gas is promised when the owner has signed, wherever nobody could use the signature of ours before: `offered` is such a
-- one, which nobody but us has seen. `unsigned`: it was handed out, and whether the owner ever signs is not known.
-- `newcomer`: its user had paid for nothing here.
alter table paymaster.sponsorship
    drop constraint sponsorship_state_check,
    add check (state in ('offered', 'reserving', 'signed', 'used', 'released')),
    add column unsigned boolean not null default false,
    add column newcomer boolean not null default false;
drop index paymaster.sponsorship_unfinished;
create index sponsorship_unfinished on paymaster.sponsorship (network, paymaster, valid_until)
    where state in ('offered', 'reserving', 'signed');
create index sponsorship_unsigned on paymaster.sponsorship (network, paymaster, valid_until)
    where unsigned and state in ('reserving', 'signed');

-- What pays its own gas has no end on the chain: `ending` is the hash of the empty operation that uses its nonce up.
alter table wallet.operation add column ending text not null default '';
