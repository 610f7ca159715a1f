-- E-mail codes and passkeys, see identity/mail_codes.py and identity/passkeys.py.

-- What a wallet signs is kept as it was shown. Challenges live for minutes: those under way begin again.
delete from identity.challenge;
alter table identity.challenge add column message text not null;

-- Good for one answer, of the same person at the same site; `person_id` is null for somebody who is not signed in.
create table identity.passkey_challenge (
    challenge   bytea primary key check (octet_length(challenge) = 32),
    purpose     text not null check (purpose in ('create', 'sign-in')),
    person_id   text references identity.person (id) on delete cascade,
    origin      text not null,
    user_handle bytea,
    expires_at  timestamptz not null
);
create index passkey_challenge_expiry on identity.passkey_challenge (expires_at);

-- `public_key` is the point on P-256, uncompressed. `user_handle` is what the authenticator keeps as the user's id.
create table identity.passkey (
    credential_id bytea primary key check (octet_length(credential_id) between 1 and 1023),
    person_id     text not null references identity.person (id) on delete cascade,
    public_key    bytea not null check (octet_length(public_key) = 65),
    user_handle   bytea not null,
    rp_id         text not null,
    name          text not null check (length(name) <= 100),
    sign_count    bigint not null check (sign_count >= 0),
    created_at    timestamptz not null,
    last_used_at  timestamptz
);
create index passkey_of_person on identity.passkey (person_id, created_at);

-- Codes sent by e-mail, kept an hour to count them. `person_id` and `caller` are hashes; address and code are sealed.
create table identity.mail_challenge (
    id         text primary key,
    person_id  text not null,
    caller     bytea not null,
    address    text not null,
    code       text not null,
    tries_left integer not null check (tries_left >= 0),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at    timestamptz
);
create index mail_challenge_of_person on identity.mail_challenge (person_id, created_at);
create index mail_challenge_of_caller on identity.mail_challenge (caller, created_at);
create index mail_challenge_age on identity.mail_challenge (created_at);

-- The address of who signed in by e-mail, sealed: shown to themselves, and nothing can be looked up by it.
create table identity.mail_address (
    person_id text primary key references identity.person (id) on delete cascade,
    sealed    text not null
);
