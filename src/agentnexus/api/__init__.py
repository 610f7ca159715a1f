"""The documented HTTP API, composed from the rooms' routers, with health and metrics."""
