drop table identity.browser;
alter table identity.token drop column proven_at, drop column idle, drop column device;
