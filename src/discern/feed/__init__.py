"""Feed: from manifest positions to normalized batches on the device, the same on any machine."""
