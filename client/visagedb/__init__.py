"""The client library of VisageDB."""
