"""The mesh, the table of logical axes, and which part of an array a process holds."""
