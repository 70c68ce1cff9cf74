"""What the figures share: peers, the processes they run in, repetition, statistics, the report."""
