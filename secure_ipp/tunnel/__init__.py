"""How you get there: ways to a door over SSH, kept open for all of one user's clients and agents (S22 to S25)."""
