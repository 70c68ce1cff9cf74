"""What is on record: typed events (`record`), the journal they go to (`journal`), and who verifies it (`verify`)."""
