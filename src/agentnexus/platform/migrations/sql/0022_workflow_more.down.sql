drop table identity.rate;
create unlogged table identity.bucket (
    key     text primary key,
    tokens  double precision not null,
    granted integer not null,
    at      timestamptz not null
) with (fillfactor = 70);
