-- Tokens may end by themselves, and their owners see which of them are used.
alter table identity.token
    add column label        text not null default '' check (length(label) <= 100),
    add column expires_at   timestamptz,
    add column not_after    timestamptz, -- the end that was given to it, which replacing it does not move
    add column last_used_at timestamptz;
create index token_of_person on identity.token (person_id, created_at desc) where revoked_at is null;
