"""Who is there and what happened: roster, grants in force, records, questions; `process` is the running hub."""
