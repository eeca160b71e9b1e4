"""The part of Edgewise that runs in the cluster: it decides where jobs run, carries that out and keeps their results."""
