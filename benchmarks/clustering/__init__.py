"""Clustering faces by person: quality against peers, and growth."""
