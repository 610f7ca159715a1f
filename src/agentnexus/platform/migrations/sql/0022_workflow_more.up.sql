-- When the calls of the last minute passed, by caller: a bucket lets its burst and its refill through within one minute.
-- Losing them in a crash of the server costs nothing.
drop table identity.bucket;
create unlogged table identity.rate (
    key     text primary key,
    passed  timestamptz[] not null,
    calls   integer[] not null,
    granted integer not null,
    at      timestamptz not null,
    check (cardinality(passed) = cardinality(calls))
) with (fillfactor = 70);
