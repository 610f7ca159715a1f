"""From task text and files to a plan: offline by similarity and schema chaining, or by a language model."""
