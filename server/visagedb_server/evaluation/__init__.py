"""What `visagedb evaluate` does around the numbers: images to templates, and the report."""
