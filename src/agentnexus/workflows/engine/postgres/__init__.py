"""The engine's journal on PostgreSQL: any number of workers on one database."""
