drop schema if exists escrow cascade;
