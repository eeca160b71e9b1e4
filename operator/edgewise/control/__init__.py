"""The operator's one way: event -> snapshot -> plan -> apply."""
