"""The pages: server-rendered HTML over the same services the API uses. No rules and no SQL live here."""
