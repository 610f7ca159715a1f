-- When who holds a token showed who they are, and from where: see identity/tokens.py.
alter table identity.token
    add column proven_at timestamptz, -- null: somebody else gave it to them
    add column idle      interval,    -- of a web session, which ends when it was not used for so long
    add column device    text not null default '' check (length(device) <= 100);
-- Whoever signed in before did prove it, but longer ago than matters.
update identity.token set proven_at = created_at - interval '1 day' where label in ('wallet', 'passkey', 'e-mail');

-- Browsers that somebody signed in with: hashes of person and a random cookie, good for nothing but telling a new one.
create table identity.browser (
    person_id text not null references identity.person (id) on delete cascade,
    hash      bytea not null check (octet_length(hash) = 32),
    seen_at   timestamptz not null,
    primary key (person_id, hash)
);
