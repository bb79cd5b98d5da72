"""Images and what is known about them: reading, scanning, manifests, splits, sources. No torch."""
