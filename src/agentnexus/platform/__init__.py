"""Ground that every room stands on: settings, database, cache, outbox, wake-ups, logs, telemetry, HTTP edges."""
