"""What programs print about their training, read as figures and model summaries."""
