drop index identity.token_of_person;
alter table identity.token drop column label, drop column expires_at, drop column not_after, drop column last_used_at;
