"""What is on record: typed events (`record`) and the log they go to (`log`)."""
