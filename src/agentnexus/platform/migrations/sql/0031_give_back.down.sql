-- What came back counts as spent again, and a total that is passed by it is raised to what is used.
create temporary table returned on commit drop as
    select n.id, n.limits, r.task, r.tick, r.seller, r.capability, r.created_at at time zone 'UTC' as at, r.returned
    from ledger.reservation r join ledger.budget leaf on leaf.id = r.budget_id
    cross join unnest(leaf.path) as node_id join ledger.budget n on n.id = node_id
    where r.returned > 0;
update ledger.budget_use u set spent = u.spent + x.returned
  from (select r.id, s.scope, s.label, sum(r.returned) as returned
        from returned r cross join lateral (values
            ('task', 'per_task', r.task), ('tick', 'per_tick', r.tick), ('seller', 'per_seller', r.seller),
            ('capability', 'per_capability', r.capability),
            ('minute', 'per_hour', to_char(r.at, 'YYYY-MM-DD"T"HH24:MI')),
            ('day', 'per_day', to_char(r.at, 'YYYY-MM-DD'))) s (scope, limit_name, label)
        where r.limits ? s.limit_name group by r.id, s.scope, s.label) x
 where (u.budget_id, u.scope, u.label) = (x.id, x.scope, x.label);
alter table ledger.budget drop constraint budget_total, drop column again;
update ledger.budget b set spent = b.spent + x.returned
  from (select id, sum(returned) as returned from returned group by id) x where x.id = b.id;
update ledger.budget set spendable = reserved + spent where reserved + spent > spendable;
alter table ledger.budget
    add constraint budget_total check (spendable is null or reserved + spent <= spendable);
alter table ledger.reservation drop column returned;
alter table ledger.transfer drop column reservation;
