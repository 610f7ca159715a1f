"""Payments inside the house: transfers between internal accounts, with holds. Also the supported fake of a rail."""
