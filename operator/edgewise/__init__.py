"""What of Edgewise runs in the cluster: it decides where jobs run, carries that out and keeps their results."""
