"""Loads, reports, results: measures the service from outside. Nothing that serves imports this."""
