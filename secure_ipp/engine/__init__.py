"""Where tasks run: the agent of a host, its template, and the engines forked from it."""
