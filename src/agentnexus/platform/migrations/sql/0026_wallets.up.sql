-- Smart accounts of users and what they sent, see wallets/store.py.
create schema wallet;
