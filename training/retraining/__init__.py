"""The loop: events into tables, the tables into a retrained family, and the verdict on whether it may serve."""
