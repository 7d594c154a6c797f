"""Parts of the kill campaign: what must be there, who writes it, the server, the checks."""
