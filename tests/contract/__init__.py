"""The served document tried out: schemathesis makes requests of it, good and bad, and holds the answers against it."""
