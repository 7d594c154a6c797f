"""The gRPC server of VisageDB."""
