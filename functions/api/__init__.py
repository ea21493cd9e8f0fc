"""Requests come in: Chalice on Lambda behind an API Gateway REST API."""
