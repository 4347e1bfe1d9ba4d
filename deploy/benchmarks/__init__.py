"""Measures serving at sizes beyond the tests, and suggestions against the market's truth."""
