"""What leaves a run: model bundles, their proof, and predictions from them."""
