"""Networks by name, their weights and facts. Images in, logits and features out; knows no run."""
