"""The web service that owns the results volume: it takes uploads from agents and serves results to users.

It never writes to the Kubernetes API and never decides which attempt's results count: the operator does.
"""
