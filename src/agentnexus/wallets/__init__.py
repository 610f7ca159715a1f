"""Smart accounts of this node's users: made without keys, asked what they hold, sent from, with the gas paid for."""
