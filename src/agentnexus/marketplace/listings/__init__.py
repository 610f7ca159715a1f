"""Listings: the catalogue of this node's agents, made from their manifests."""
