"""What a run was asked to do: schema, layers of files and flags, recipes, and their explanation."""
