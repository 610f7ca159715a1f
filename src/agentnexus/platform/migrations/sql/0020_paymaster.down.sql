drop schema paymaster cascade;
