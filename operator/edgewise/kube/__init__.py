"""How Edgewise's programs in the cluster talk to the API server: raw requests, watches, and whose token it is."""
