"""Markets: where offers are found and bought, each in its own seller protocol."""
