"""What the router remembers: nodes, requests, events. SQLite unless told otherwise; never on the request path."""
