"""What every room may use: whole files, one-line messages, where data lies, the methods' names."""
