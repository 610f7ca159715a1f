"""The nouns every room shares (money, need, offer, job, receipt, errors, events) and the ports between rooms."""
