create schema identity;

create table identity.person (
    id         text primary key check (id ~ '^[a-zA-Z0-9_.@-]{1,100}$'),
    role       text not null check (role in ('basic', 'operator')),
    created_at timestamptz not null default now()
);

-- Tokens are shown once and kept as SHA-256: high-entropy random values need no slow hash.
create table identity.token (
    hash       bytea primary key,
    person_id  text not null references identity.person (id) on delete cascade,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
