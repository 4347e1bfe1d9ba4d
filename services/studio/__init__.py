"""The merchant's page: a web server that calls the other services for one merchant at a time."""
