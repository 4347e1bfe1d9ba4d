"""What serving costs at sizes that the tests do not reach, and what of it only the market's truth can judge."""
