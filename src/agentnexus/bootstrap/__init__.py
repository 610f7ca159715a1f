"""The only place that knows every adapter: each is made here, from the settings, and handed to who needs it."""
