-- Rights until a date beside rights to a number of runs, and rights that were passed on. `starts_at` and `ends_at` are
-- of periods; `runs_max` how many runs one allows (null: as many as its owner likes). `token_id` is there to find the
-- purchases of a token that moved.
alter table marketplace.purchase
    add column kind         text not null default 'runs' check (kind in ('runs', 'period')),
    add column starts_at    timestamptz,
    add column ends_at      timestamptz,
    add column runs_max     integer check (runs_max > 0),
    add column transferable boolean not null default false,
    add column upgrade      boolean not null default false,
    add column token_id     numeric(78, 0) not null default 0,
    add check ((kind = 'period') = (starts_at is not null and ends_at is not null));
update marketplace.purchase p set token_id = e.token_id
  from marketplace.entitlement e where (e.user_id, e.agent_id) = (p.user_id, p.agent_id);
create index purchase_of_token on marketplace.purchase (token_id, created_at);

-- Who holds how many tokens of a purchase: its buyer all of them, until some are passed on.
create table marketplace.holding (
    purchase_id text not null references marketplace.purchase (id),
    wallet      text not null,
    count       integer not null check (count >= 0),
    primary key (purchase_id, wallet)
);
create index holding_of_wallet on marketplace.holding (wallet);
insert into marketplace.holding (purchase_id, wallet, count) select id, wallet, quantity from marketplace.purchase;

-- What one event of the chain passed on, so that it can be undone with its block.
create table marketplace.passing (
    change      text not null,
    purchase_id text not null references marketplace.purchase (id),
    giver       text not null,
    receiver    text not null,
    count       integer not null check (count > 0),
    primary key (change, purchase_id)
);

-- A right is of a token now, not of an agent: one of each kind and period.
alter table marketplace.entitlement drop constraint entitlement_pkey, add primary key (user_id, token_id);
create index entitlement_of_agent on marketplace.entitlement (user_id, agent_id);

-- Whose tokens a run uses up.
alter table marketplace.use add column wallet text not null default '';
update marketplace.use u set wallet = p.wallet from marketplace.purchase p where p.id = u.purchase_id;
