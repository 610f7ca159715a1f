-- Down: evm.
drop schema evm cascade;
