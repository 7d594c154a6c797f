"""The engine of VisageDB: faces to vectors, vectors to disk, vectors to answers."""
