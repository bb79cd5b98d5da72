"""The one compute entry: joins training, exporting and workflows for every launcher."""
