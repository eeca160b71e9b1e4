"""The intake of beats: who may report, what was reported last, and how old it is."""
