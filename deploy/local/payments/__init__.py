"""A provider of payments for tests and for one machine: it moves no money, and keeps the rules of those that do."""
