"""Events of contracts, as the chain tells them: read in bounded ranges, kept by block hash, taken back when the chain
takes them back, and told to each handler once.
"""
