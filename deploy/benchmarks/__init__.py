"""What serving costs at sizes that the tests do not reach."""
