-- What came with kinds is gone with them; a user's newest right to an agent stays.
alter table marketplace.use drop column wallet;
drop index marketplace.entitlement_of_agent;
delete from marketplace.entitlement e using marketplace.entitlement newer
 where (e.user_id, e.agent_id) = (newer.user_id, newer.agent_id)
   and (e.created_at, e.token_id) < (newer.created_at, newer.token_id);
alter table marketplace.entitlement drop constraint entitlement_pkey, add primary key (user_id, agent_id);
drop table marketplace.passing;
drop table marketplace.holding;
drop index marketplace.purchase_of_token;
alter table marketplace.purchase
    drop column token_id,
    drop column upgrade,
    drop column transferable,
    drop column runs_max,
    drop column ends_at,
    drop column starts_at,
    drop column kind;
