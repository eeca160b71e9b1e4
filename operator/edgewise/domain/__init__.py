"""Pure decisions: from a frozen snapshot and the time to a list of actions. No I/O, no clock, no kopf."""
