"""The books: double entry, reservations and budgets.

`books.Books` is the door, `memory.MemoryBooks` its supported fake.
"""
