"""Generated from proto/visagedb/v1."""
