"""How the agent reaches the cluster: beats to the operator, results to the gateway."""
