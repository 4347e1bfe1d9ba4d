"""Items on sale before they are made: presales, orders, and the money in between."""
