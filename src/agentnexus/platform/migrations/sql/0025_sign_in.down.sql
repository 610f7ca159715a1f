drop table identity.mail_address;
drop table identity.mail_challenge;
drop table identity.passkey;
drop table identity.passkey_challenge;
alter table identity.challenge drop column message;
