-- E-mail codes and passkeys, see identity/mail_codes.py and identity/passkeys.py.
select 1;
