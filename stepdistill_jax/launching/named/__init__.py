"""Training by names in place of gin files: `stepdistill train tickets --student t5_1_1_small`, and the gin that this stands for."""
